"""The same with larger bodies."""

from __future__ import annotations

from collections.abc import Mapping

from ..section import Round
from ..settings import Scale
from ..world import Setup, World
from . import ceilings

#: Bytes of a body, and which part of the signals of a drain are sent of it.
BODIES = {"200 B": (200, 1.0), "1 KiB": (1 << 10, 0.5), "8 KiB": (8 << 10, 0.15), "256 KiB": (256 << 10, 0.01)}


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    for name, (body_bytes, part) in BODIES.items():
        count = round(scale.signals * part)
        # Without the compression that PostgreSQL would find too easy on a body of one letter.
        world.execute("ALTER TABLE signal_0 ALTER body SET STORAGE EXTERNAL")
        with world.relays(Setup()) as relays:
            relayed = world.drain(relays, count, body_bytes).figures(count)
            memory = world.peak_memory(relays)
        world.clean()
        ceiling = ceilings.broker(world, "classic", count, body_bytes)
        found[name] = {**relayed, "ratio": relayed["rate"] / ceiling["rate"], "memory_mib": memory}
        found[f"ceiling: {name}"] = ceiling
    return found
