"""The plots of the report."""

from __future__ import annotations

from collections.abc import Callable

from ..figures import Figures
from .bars import Bar, chart


def _drawing(
    title: str, section: str, name: str, *, first: str = "", digits: int = 0, logarithmic: bool = False
) -> Callable[[Figures], str | None]:
    """A plot of one figure of all variants of a section; None when there is none."""

    def draw(figures: Figures) -> str | None:
        bars = [
            Bar(variant.removeprefix(first), figure, variant.startswith(("ceiling", "beside")))
            for variant in figures.variants(section)
            if variant.startswith(first) and variant != "whole" and (figure := figures.get(section, variant, name))
        ]
        return chart(title, bars, digits=digits, logarithmic=logarithmic) if bars else None

    return draw


def _cpu(figures: Figures) -> str | None:
    parts = {"relay_us": "relay", "postgres_us": "PostgreSQL", "broker_us": "broker"}
    bars = [
        Bar(f"{kind}: {label}", figure)
        for kind in ("classic", "quorum")
        for name, label in parts.items()
        if (figure := figures.get("drain", f"{kind}, without consumer", name))
    ]
    return chart("Processor time, microseconds a signal", bars, digits=1) if bars else None


def _percentiles(figures: Figures) -> str | None:
    bars = [
        Bar(f"{variant}: {name.removesuffix('_ms')}", figure, name != "p50_ms")
        for variant in figures.variants("latency")
        for name in ("p50_ms", "p99_ms", "max_ms")
        if (figure := figures.get("latency", variant, name))
    ]
    return (
        chart("From commit to arrival, milliseconds, logarithmic", bars, digits=1, logarithmic=True) if bars else None
    )


#: By the name of the chapter that they belong to.
PICTURES: dict[str, Callable[[Figures], str | None]] = {
    "drain": _drawing("Drain rate beside the broker's ceiling, signals a second", "drain", "rate"),
    "cpu": _cpu,
    "profile": _drawing("Relay CPU by phase, microseconds a signal", "profile", "us", digits=2),
    "bodies": _drawing("Larger bodies, signals a second, logarithmic", "bodies", "rate", logarithmic=True),
    "single": _drawing("Bursts of one, signals a second", "single", "rate"),
    "latency": _percentiles,
    "producers": _drawing("Commits a second of 16 producers", "producers", "committed"),
    "scaling": _drawing("Scaling, signals a second", "scaling", "rate"),
}
