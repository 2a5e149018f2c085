"""What the doorbell costs the application: commits a second of 16 producers while relays are busy."""

from __future__ import annotations

from collections.abc import Mapping

from ..pgbench import produce
from ..section import Round
from ..settings import Scale
from ..world import Setup, World

CLIENTS = 16


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    world.execute("CREATE SEQUENCE IF NOT EXISTS produced CACHE 100")
    for name, action in (("no trigger", "DISABLE"), ("doorbell", "ENABLE")):
        world.execute(f"ALTER TABLE signal_0 {action} TRIGGER USER")
        with world.relays(Setup()):
            found[name] = {"committed": produce(world, "signal_0", CLIENTS, scale.seconds)}
        world.clean()
        found[f"{name}, no relay"] = {"committed": produce(world, "signal_0", CLIENTS, scale.seconds)}
        world.clean()
    return found
