"""A backlog goes out as fast as it can: on both kinds of queues, with and without a consumer, beside the ceilings.

The ceiling has the processors for itself. What the broker takes beside a process that does nothing but burn as much of
them as relay and PostgreSQL did, tells what is left to the broker's own way on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..burner import burning
from ..section import Round
from ..settings import BODY_BYTES, Scale
from ..world import KINDS, Setup, World
from . import ceilings


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    for kind in KINDS:
        for wanted in (False, True):
            name = f"{kind}, {'with' if wanted else 'without'} consumer"
            drained, ceiling = beside(world, kind, scale.signals, wanted=wanted)
            shared = _beside_a_load(world, kind, scale.signals, _cores(drained), wanted=wanted)
            found[name] = {**drained, "shared_ratio": drained["rate"] / shared["rate"]}
            found[f"ceiling: {name}"], found[f"beside a load: {name}"] = ceiling, shared
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


def _cores(drained: Mapping[str, float]) -> float:
    """How many processors relay and PostgreSQL kept busy."""
    return drained["rate"] * (drained["relay_us"] + drained["postgres_us"]) / 1e6


def _beside_a_load(world: World, kind: str, count: int, cores: float, *, wanted: bool) -> Mapping[str, float]:
    world.clean()
    with world.consumer(kind, wanted=wanted), burning(cores):
        return {**ceilings.broker(world, kind, count), "load_percent": cores * 100}
