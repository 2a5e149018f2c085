"""A long backlog beside a short one: the rate over a stretch of it, and the memory of the relay."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.processes import RelayProcess

from ..section import Round
from ..settings import BURST_COUNT, Scale
from ..world import Setup, Spent, World


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    for length in (short(scale), scale.backlog):
        with world.relays(Setup()) as relays:
            first, last = 2 * BURST_COUNT // 5, min(length - BURST_COUNT // 2, 3 * short(scale))
            figures = _stretch(world, relays, length, first, last).figures(last - first)
            found[f"{length:,} signals"] = {**figures, "memory_mib": world.peak_memory(relays)}
    world.clean()
    return found


def short(scale: Scale) -> int:
    return min(20_000, scale.signals)


def _stretch(world: World, relays: list[RelayProcess], length: int, first: int, last: int) -> Spent:
    """From the time when the first of these keys is gone until the last is."""
    world.clean()
    world.fill(length)
    world.wait_until_sent(first)
    before = world.spent(relays)
    world.wait_until_sent(last)
    return world.spent(relays) - before
