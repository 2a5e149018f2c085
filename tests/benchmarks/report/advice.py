"""How to size bursts, workers and replicas, with the figures that say so."""

from __future__ import annotations

from ..figures import Figures
from .numbers import number

TEXT = """## Sizing

**Bursts.** A burst costs its round trips whether it has one signal or a thousand: {round_trips} round trips to the
database and one wait for the broker. At one signal a burst {single} signals a second went out at best; at 1,000,
{drain}. Leave a model that uses `RabbitMQSignal` at its burst count of 500, and raise it to 1,000 or 2,000 where
backlogs of small signals matter; beyond that little is left to gain, and a crash repeats more of them. A model whose
send method takes long for each signal wants small bursts: its row locks and its transaction last as long as the send.

**Workers.** While one worker waits for the broker, another reads and encodes. Two keep one core busy ({one_worker}
signals a second with one worker, {two_workers} with two{four_workers}). More are of use where the broker is far away,
where bursts are small, or where a model's destination is slow: a slow destination keeps its worker for as long as its
send takes.

**Replicas.** A second relay is there for the case that the first one ends; `SKIP LOCKED` keeps them apart. For speed
one more process helps as long as relay CPU is what bounds the rate: a relay spends {relay_us} µs a signal, so a core
gives about {per_core} signals a second, as long as PostgreSQL ({postgres_us} µs) and the broker ({broker_us} µs) have
cores of their own. On this machine, where all share them: {processes}.

**Connections.** Each worker has one connection to the database and one to the broker; add two for a relay's own
polls."""


def advice(figures: Figures) -> str:
    """The text, with a dash for what was not measured."""
    drain = "classic, without consumer"
    best = [figures.median("single", one, "rate") or 0.0 for one in figures.variants("single")]
    relay_us = figures.median("drain", drain, "relay_us")
    processes = [
        f"{_number(figures.median('scaling', one, 'rate'))} with {one.removeprefix('processes: ')}"
        for one in figures.variants("scaling")
        if one.startswith("processes: ")
    ]
    four = figures.median("scaling", "workers: 4", "rate")
    return TEXT.format(
        round_trips=_number(figures.median("counters", "burst of 1,000", "round_trips")),
        single=_number(max(best, default=None)),
        drain=_number(figures.median("drain", drain, "rate")),
        one_worker=_number(figures.median("scaling", "workers: 1", "rate")),
        two_workers=_number(figures.median("scaling", "workers: 2", "rate")),
        four_workers=f", {number(four)} with four" if four else "",
        relay_us=_number(relay_us),
        per_core=_number(1e6 / relay_us if relay_us else None),
        postgres_us=_number(figures.median("drain", drain, "postgres_us")),
        broker_us=_number(figures.median("drain", drain, "broker_us")),
        processes=", ".join(processes) or "-",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else number(value)
