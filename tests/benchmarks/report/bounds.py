"""What bounds the rates whose targets are missed, said with the figures of the same run."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..figures import Figures
from .numbers import number

PARTS = ("relay_us", "postgres_us", "broker_us")

DRAIN = (
    "A signal takes {relay} µs of the relay, {postgres} of PostgreSQL and {broker} of the broker, {whole} in all: "
    "{cores} cores that never wait would send {most} a second, {most_ratio} of a ceiling that had them all for the "
    "broker. Beside a process that burned what relay and PostgreSQL took ({load}% of a core), the broker took {shared} "
    "of the same encoded frames a second; the drain reached {shared_ratio} of that."
)

SINGLE = (
    "Each signal is a transaction of {round_trips} round trips and a wait for the broker by itself. It takes {relay} "
    "µs of the relay, {postgres} of PostgreSQL and {broker} of the broker, {whole} in all: {cores} cores that never "
    "wait would send {most} a second. Most of the relay's part goes into the session, the pool and the driver, which "
    "begin anew with each transaction."
)

PRODUCERS = (
    "Without any relay, commits with the doorbell are {alone} of those without: so much is the trigger by itself, "
    "a call of a function for each statement, with a subtransaction, so that a full lock table fails no producer. "
    "The clients do nothing else, and keep all processors busy: in an application the share is smaller."
)

DEAD_ROWS = (
    "PostgreSQL takes {more} µs a signal more than without dead rows. The first scans of the workers and of the "
    "poller pass over all of them, before a mark is known; later ones from the first key, which find what was "
    "committed late, take up to a tenth of the time. The longer the drain ({count} signals here), the less the "
    "first ones weigh."
)


def drain(variant: str) -> Callable[[Figures], str]:
    """What bounds the drain of this variant."""

    def text(figures: Figures) -> str:
        shared, ceiling = f"beside a load: {variant}", figures.median("drain", f"ceiling: {variant}", "rate")
        shared_rate = figures.median("drain", shared, "rate")
        if not shared_rate or not ceiling:
            return ""
        parts = _parts(figures, "drain", variant)
        return DRAIN.format(
            **parts,
            most_ratio=number(_most(figures, "drain", variant) / ceiling, 2),
            load=number(figures.median("drain", shared, "load_percent") or 0),
            shared=number(shared_rate),
            shared_ratio=number(figures.median("drain", variant, "shared_ratio") or 0, 2),
        )

    return text


def single(figures: Figures) -> str:
    """What bounds bursts of one."""
    best = max(figures.variants("single"), key=lambda one: figures.median("single", one, "rate") or 0, default="")
    if figures.median("single", best, PARTS[0]) is None:
        return ""
    round_trips = number(figures.median("counters", "burst of 1", "round_trips") or 0)
    return SINGLE.format(**_parts(figures, "single", best), round_trips=round_trips)


def producers(figures: Figures) -> str:
    """What bounds the producers' commits."""
    with_it = figures.median("producers", "doorbell, no relay", "committed")
    without = figures.median("producers", "no trigger, no relay", "committed")
    if not with_it or not without:
        return ""
    return PRODUCERS.format(alone=number(with_it / without, 2))


def dead_rows(figures: Figures) -> str:
    """What bounds the drain behind dead rows."""
    clean, *dead = (figures.median("dead_rows", one, "postgres_us") for one in figures.variants("dead_rows"))
    if clean is None or not dead or dead[0] is None:
        return ""
    return DEAD_ROWS.format(
        more=number(dead[0] - clean, 1), count=number(figures.sections["dead_rows"].get("signals", 0))
    )


def _parts(figures: Figures, section: str, variant: str) -> dict[str, str]:
    values = {name.removesuffix("_us"): figures.median(section, variant, name) or 0.0 for name in PARTS}
    shown = {name: number(value, 0 if value >= 100 else 1) for name, value in values.items()}
    whole = sum(values.values())
    return {
        **shown,
        "whole": number(whole, 0 if whole >= 100 else 1),
        "cores": str(_cores(figures)),
        "most": number(_most(figures, section, variant)),
    }


def _most(figures: Figures, section: str, variant: str) -> float:
    """What the processors would do if none of them ever waited."""
    whole = sum(figures.median(section, variant, name) or 0.0 for name in PARTS)
    return _cores(figures) * 1e6 / whole if whole else 0.0


def _cores(figures: Figures) -> int:
    """Of the machine that was measured, which may be another one."""
    found = re.search(r"(\d+) cores", figures.machine.get("processor", ""))
    return int(found[1]) if found else 1
