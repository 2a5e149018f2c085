"""The primary is killed for good, and its standby is promoted; the proxy is the address that follows the primary."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.support.postgres import PrivatePostgres
from tests.support.standby import PrivateStandby
from tests.support.waiting import eventually

from .fault import Act, Fault
from .world import World

#: More than the values of a sequence that the primary has logged ahead, so that keys come again.
UNREPLICATED_SIGNALS = 60


def promoted(*, is_synchronous: bool) -> Act:
    def act(world: World, _chance: random.Random) -> Iterator[None]:
        assert world.writer is not None
        primary = world.postgres
        standby = world.stack.enter_context(PrivateStandby(primary)).start()
        if is_synchronous:
            _wait_for_it(primary)
        with world.writer.resting():
            _wait_until_replicated(primary)
            replicated = _committed(world)
            if not is_synchronous:
                _hold_back(standby)
            world.wait_until_sent(world.write(UNREPLICATED_SIGNALS))
            known = _committed(world)
            primary.kill9()
        yield
        standby.execute("SELECT pg_promote()")
        world.promote(standby)
        forgotten = known - _committed(world)
        # Nothing that was replicated; with an asynchronous standby all that was not, although it was sent.
        assert forgotten.isdisjoint(replicated)
        assert len(forgotten) == (0 if is_synchronous else UNREPLICATED_SIGNALS), f"{len(forgotten)} are forgotten"
        world.ledger.forgotten |= forgotten

    return act


def _committed(world: World) -> set[int]:
    return {row[0] for row in world.sql("SELECT number FROM business")}


def _wait_for_it(primary: PrivatePostgres) -> None:
    """Commits wait for the standby."""
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.execute("SELECT pg_reload_conf()")
    eventually(lambda: ("sync",) in primary.execute("SELECT sync_state FROM pg_stat_replication"), 30)


def _wait_until_replicated(primary: PrivatePostgres) -> None:
    statement = "SELECT bool_and(replay_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication"
    eventually(lambda: primary.execute(statement)[0][0], 30, "the standby has everything")


def _hold_back(standby: PrivatePostgres) -> None:
    """Nothing more reaches it, as if its network were slower than the primary's end."""
    standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
    standby.execute("SELECT pg_reload_conf()")
    eventually(lambda: not standby.execute("SELECT 1 FROM pg_stat_wal_receiver"), 30, "it does not receive")


FAULTS = [
    Fault(
        "database: primary killed, synchronous standby promoted",
        promoted(is_synchronous=True),
        "All that was committed is there.",
        says="database down",
        weight=0.3,
    ),
    Fault(
        "database: primary killed, asynchronous standby promoted",
        promoted(is_synchronous=False),
        "The last commits are gone with their business data, although their messages were sent. Signals that were sent "
        "and deleted since are there again, and are sent again. New ones have new ids, although their keys come again.",
        says="database down",
        weight=0.3,
    ),
]
