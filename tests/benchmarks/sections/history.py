"""What it costs to keep what was sent."""

from __future__ import annotations

from collections.abc import Mapping

from signalbus_core.lowlevel import SENT

from ..section import Round
from ..settings import Scale
from ..world import Setup, World

#: For how many days what was sent is kept, by the name of the row.
KEEP_DAYS = {"nothing kept": 0, "kept for 7 days": 7}


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    for statement in SENT.sql().split(";\n"):
        world.execute(statement)
    try:
        for name, days in KEEP_DAYS.items():
            world.create_tables(1)
            with world.relays(Setup(keep_days=days)) as relays:
                world.execute(f"TRUNCATE {SENT.name}")
                found[name] = world.drain(relays, scale.signals).figures(scale.signals)
            [(kept,)] = world.execute(f"SELECT count(*) FROM {SENT.name}")
            if kept != (scale.signals if days else 0):
                raise AssertionError(f"{name}: {kept} of {scale.signals} signals were kept")
    finally:
        world.execute(f"DROP TABLE {SENT.name}")
        world.create_tables(1)
    return found
