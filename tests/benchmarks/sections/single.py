"""Bursts of one signal: each costs a transaction and an answer of the broker by itself."""

from __future__ import annotations

from collections.abc import Mapping

from ..section import Round
from ..settings import Scale
from ..world import Setup, World

#: Bursts of one are so much slower that so many of the signals do.
PART = 0.1


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    count = round(scale.signals * PART)
    for processes, workers in ((1, 1), (1, 2), (1, 4), (2, 2), (2, 4)):
        with world.relays(Setup(processes=processes, workers=workers, burst_count=1)) as relays:
            found[name(processes, workers)] = world.drain(relays, count).figures(count)
    return found


def name(processes: int, workers: int) -> str:
    return f"{processes} {'process' if processes == 1 else 'processes'} x {workers} workers"
