"""Keys of one, two and three columns, in bursts of several sizes."""

from __future__ import annotations

from collections.abc import Mapping

from ..section import Round
from ..settings import Scale
from ..world import Setup, World

#: The sizes of bursts. Small ones are dear by themselves, so fewer signals go out in them.
SIZES = {50: 0.25, 500: 1.0, 5000: 1.0}


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    try:
        for size, part in SIZES.items():
            count = max(2 * size, round(scale.signals * part))
            for columns in (1, 2, 3):
                world.create_tables(1, key_columns=columns)
                with world.relays(Setup(burst_count=size, key_columns=columns)) as relays:
                    found[name(size, columns)] = world.drain(relays, count).figures(count)
    finally:
        world.create_tables(1)
    return found


def name(size: int, columns: int) -> str:
    return f"bursts of {size:,}, {columns} {'column' if columns == 1 else 'columns'}"
