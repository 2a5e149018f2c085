"""Dead rows that an old snapshot keeps from being cleaned: the lowest living key is behind all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from tests.support.processes import RelayProcess

from ..section import Round
from ..settings import Scale
from ..world import Setup, World


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    with world.relays(Setup()) as relays:
        found["clean"] = world.drain(relays, scale.signals).figures(scale.signals)
        world.clean()
        with _old_snapshot(world):
            _leave_dead(world, relays, scale.dead_rows)
            dead = world.drain_more(relays, scale.signals, first=scale.dead_rows + 1)
        found[f"{scale.dead_rows:,} dead rows"] = dead.figures(scale.signals)
    world.clean()
    return found


@contextlib.contextmanager
def _old_snapshot(world: World) -> Iterator[None]:
    """What a long report, or a forgotten transaction, holds."""
    with contextlib.closing(world.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT pg_current_snapshot()")
        yield


def _leave_dead(world: World, relays: list[RelayProcess], count: int) -> None:
    # Stopped, so that the relays leave them to the delete.
    for relay in relays:
        relay.pause()
    world.fill(count)
    world.execute("DELETE FROM signal_0")
    for relay in relays:
        relay.resume()
