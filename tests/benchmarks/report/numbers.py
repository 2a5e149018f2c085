"""Figures as people read them."""

from __future__ import annotations

from ..section import Figure

#: The heading of each figure, and the digits after its point.
HEADINGS: dict[str, tuple[str, int]] = {
    "rate": ("signals/s", 0),
    "ratio": ("of the ceiling", 2),
    "shared_ratio": ("of the broker beside such a load", 2),
    "load_percent": ("load, % of a core", 0),
    "relay_us": ("relay CPU, µs", 1),
    "client_us": ("client CPU, µs", 1),
    "postgres_us": ("PostgreSQL CPU, µs", 1),
    "broker_us": ("broker CPU, µs", 1),
    "wal_bytes": ("WAL, bytes", 0),
    "acks": ("ack frames a message", 3),
    "p50_ms": ("p50, ms", 1),
    "p90_ms": ("p90, ms", 1),
    "p99_ms": ("p99, ms", 1),
    "max_ms": ("longest, ms", 1),
    "committed": ("commits/s", 0),
    "statements": ("statements", 2),
    "round_trips": ("round trips", 2),
    "per_1000": ("round trips a 1,000 signals", 0),
    "sends": ("send calls", 0),
    "burst_acks": ("ack frames of the burst", 0),
    "cpu_percent": ("relay CPU, % of a core", 2),
    "memory_mib": ("peak memory, MiB", 0),
    "us": ("µs", 2),
    "slow_rate": ("slow model, signals/s", 0),
    "shortest_share": ("smallest share", 2),
    "wakeups": ("wake-ups a signal", 2),
}


def shown(figure: Figure | None, digits: int) -> str:
    """The median, with the spread where there is one."""
    if figure is None:
        return ""
    text = number(figure.median, digits)
    if len(figure.values) > 1 and figure.low != figure.high:
        text += f" ({number(figure.low, digits)} to {number(figure.high, digits)})"
    return text


def number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"
