"""A backlog goes out as fast as it can: on both kinds of queues, with and without a consumer, beside the ceilings."""

from __future__ import annotations

from collections.abc import Mapping

from ..section import Round
from ..settings import BODY_BYTES, Scale
from ..world import KINDS, Setup, World
from . import ceilings


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    for kind in KINDS:
        for wanted in (False, True):
            name = f"{kind}, {'with' if wanted else 'without'} consumer"
            found[name], found[f"ceiling: {name}"] = beside(world, kind, scale.signals, wanted=wanted)
    return found


def beside(
    world: World, kind: str, count: int, body_bytes: int = BODY_BYTES, *, wanted: bool = False
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """A drain, and the ceiling of its broker."""
    with world.relays(Setup(kind)) as relays, world.consumer(kind, wanted=wanted):
        relayed = world.drain(relays, count, body_bytes).figures(count)
    world.clean()
    with world.consumer(kind, wanted=wanted):
        ceiling = ceilings.broker(world, kind, count, body_bytes)
    return {**relayed, "ratio": relayed["rate"] / ceiling["rate"]}, ceiling
