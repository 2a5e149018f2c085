"""What one burst asks of database and broker: counted, not timed. The same on every machine."""

from __future__ import annotations

from collections.abc import Mapping

from ..inside import Inside
from ..section import Round
from ..settings import Scale
from ..world import World


def measure(world: World, _scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    for size in (1, 100, 1000):
        with Inside(world, burst_count=size) as inside:
            inside.burst(size)
            counted = inside.count(size)
            found[f"burst of {size:,}"] = {**counted, "per_1000": counted["round_trips"] * 1000 / size}
    return found
