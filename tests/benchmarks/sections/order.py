"""What order by key costs: a backlog of a few keys, of many, and of as many signals without an order, in turns."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.processes import RelayProcess

from ..section import Round
from ..settings import BODY_BYTES, Scale
from ..world import Setup, World

#: The numbers of keys, and which part of the signals of a drain are sent of them. The signals of one key go one by one.
KEYS = {1: 0.05, 10: 0.25, 1_000: 1.0, 10_000: 1.0}

UNORDERED = "no order"


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    with world.relays(Setup()) as relays:
        found[UNORDERED] = world.drain(relays, scale.signals).figures(scale.signals)
    world.create_tables(1, sender="ordered")
    try:
        with world.relays(Setup(sender="ordered")) as relays:
            for keys, part in KEYS.items():
                found[name(keys)] = _drain(world, relays, round(scale.signals * part), keys)
    finally:
        world.create_tables(1)
    return found


def name(keys: int) -> str:
    return f"{keys:,} {'key' if keys == 1 else 'keys'}"


def _drain(world: World, relays: list[RelayProcess], count: int, keys: int) -> Mapping[str, float]:
    """The keys take turns, as in an application whose accounts are equally busy."""
    world.clean()
    world.execute(
        "INSERT INTO signal_0 (id, body, account) SELECT n, repeat('x', %s), n %% %s FROM generate_series(1, %s) n",
        BODY_BYTES,
        keys,
        count,
    )
    before = world.spent(relays)
    world.wait_until_empty()
    return (world.spent(relays) - before).figures(count)
