"""What happens to a relay itself: it is killed, stopped for a while, or asked to end."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

from signalbus_core.burst.failpoints import PLACES
from tests.support.waiting import eventually

from .fault import Act, Fault
from .relays import CLOSE_WAIT, Relay
from .world import World

WHERE = {
    "begin": "before a burst begins",
    "locked": "when signals are locked",
    "publishing": "with a part of a burst published",
    "awaiting": "with a part of a burst answered",
    "confirmed": "between confirm and delete",
    "deleted": "between delete and COMMIT",
    "committed": "right after COMMIT",
}


def killed_at(place: str) -> Act:
    def act(world: World, _chance: random.Random) -> Iterator[None]:
        world.arm(place, "kill")
        eventually(world.dead, 30, f"a relay dies at {place}")
        world.disarm(place)
        yield

    return act


def killed_with_commit_under_way(world: World, _chance: random.Random) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        [relay, *_] = stack.enter_context(world.hanging("deleted"))
        deleting = _deleting_sessions(world)
        world.database_proxy.stall("to_client")
        stack.callback(world.database_proxy.forward)
        world.disarm("deleted")
        eventually(lambda: not set(deleting) & set(_deleting_sessions(world)), 20, "the COMMIT is carried out")
        relay.kill()
    yield


def commit_unanswered(world: World, _chance: random.Random) -> Iterator[None]:
    with world.hanging("deleted"):
        deleting = _deleting_sessions(world)
        world.database_proxy.stall("to_client")
        world.disarm("deleted")
        eventually(lambda: not set(deleting) & set(_deleting_sessions(world)), 20, "the COMMIT is carried out")
        world.database_proxy.reset()
        world.database_proxy.forward()
    yield


def _deleting_sessions(world: World) -> list[int]:
    """Sessions that have deleted signals, and not committed."""
    rows = world.ask(
        "SELECT pid FROM pg_stat_activity WHERE usename = 'relay' AND state = 'idle in transaction' "
        "AND query LIKE '%%DELETE FROM %%' AND query NOT LIKE '%%signalbus_parked%%'"
    )
    return [row[0] for row in rows]


def killed_at_random(world: World, chance: random.Random) -> Iterator[None]:
    threading.Event().wait(chance.uniform(0.0, 0.3))
    chance.choice(world.relays).kill()
    yield


def stopped_for_long(world: World, chance: random.Random) -> Iterator[None]:
    relay = chance.choice(world.relays)
    relay.pause()
    yield from _until_given_up(world, relay)


def stopped_at(place: str) -> Act:
    def act(world: World, _chance: random.Random) -> Iterator[None]:
        world.arm(place, "stop")
        [pid, *_] = eventually(lambda: world.reached(place), 30, f"a relay stops at {place}")
        world.disarm(place)
        yield from _until_given_up(world, next(relay for relay in world.relays if relay.pid == pid))

    return act


def _until_given_up(world: World, relay: Relay) -> Iterator[None]:
    """Until the database has ended its transactions, and the broker its connections for want of heartbeats."""
    try:
        eventually(lambda: not _in_transaction(world, relay), 30, "the database has given the relay up")
        eventually(lambda: set(relay.broker_sockets()) == {CLOSE_WAIT}, 30, "the broker has given the relay up")
        assert relay.says() == "silent"
        yield
    finally:
        relay.resume()


def _in_transaction(world: World, relay: Relay) -> bool:
    # One that has begun and done nothing yet holds nothing, and no time limit came with its BEGIN.
    rows = world.ask(
        "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND state LIKE 'idle in transaction%%'"
        " AND query NOT LIKE 'BEGIN%%'",
        relay.name,
    )
    return bool(rows)


def terminated_idle(world: World, chance: random.Random) -> Iterator[None]:
    assert world.writer is not None
    relay = chance.choice(world.relays)
    with world.writer.resting():
        world.wait_until_sent()
        relay.terminate()
        assert relay.wait(10) == 0
    yield


def terminated_in_a_burst(world: World, _chance: random.Random) -> Iterator[None]:
    with world.hanging("confirmed") as [relay, *_]:
        relay.terminate()
        eventually(lambda: relay.logged("stopping"), 20, "the relay drains")
    assert relay.wait(20) == 0
    yield


def terminated_behind_a_lock(world: World, chance: random.Random) -> Iterator[None]:
    relay = chance.choice(world.relays)
    with world.transaction() as cursor:
        cursor.execute("LOCK TABLE signal IN ACCESS EXCLUSIVE MODE")
        eventually(lambda: waits_for_lock(world, relay), 20, "the relay waits for the lock")
        relay.terminate()
        code = relay.wait(20)
        assert code == 0, f"it ended with {code}:\n{relay.new_output()}"
    yield


def waits_for_lock(world: World, relay: Relay) -> bool:
    rows = world.ask(
        "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'", relay.name
    )
    return bool(rows)


#: A fault that is over as soon as it has happened.
AT_ONCE = (0.0, 0.0)

FAULTS = [
    *(
        Fault(f"relay: SIGKILL {WHERE[place]}", killed_at(place), says="ready", lasts=AT_ONCE, relays=1, weight=2)
        for place in PLACES
    ),
    Fault(
        "relay: SIGKILL with COMMIT under way",
        killed_with_commit_under_way,
        "The database carries the COMMIT out, and the relay dies before the answer. The signals are gone, and sent.",
        lasts=AT_ONCE,
        weight=2,
    ),
    Fault("relay: SIGKILL at a random moment", killed_at_random, says="ready", lasts=AT_ONCE, relays=1, weight=4),
    Fault(
        "relay: SIGSTOP for longer than its limits",
        stopped_for_long,
        "The broker closes its connections, the database ends its transactions; the other relay goes on.",
        lasts=AT_ONCE,
        relays=1,
        weight=0.2,
    ),
    *(
        Fault(
            f"relay: SIGSTOP for longer than its limits, {where}",
            stopped_at(place),
            "The other relay sends the burst again; the one that wakes up deletes nothing that it has no lock on.",
            lasts=AT_ONCE,
            relays=1,
            weight=0.2,
        )
        for place, where in (("awaiting", WHERE["awaiting"]), ("confirmed", WHERE["confirmed"]))
    ),
    Fault("relay: SIGTERM while idle", terminated_idle, says="ready", lasts=AT_ONCE, relays=0),
    Fault("relay: SIGTERM in a burst", terminated_in_a_burst, says="ready", lasts=AT_ONCE, relays=0),
    Fault(
        "relay: SIGTERM behind a table lock",
        terminated_behind_a_lock,
        "The lock timeout ends the wait, so that the drain ends in time, with exit code 0.",
        lasts=AT_ONCE,
        relays=0,
        weight=0.3,
    ),
]
