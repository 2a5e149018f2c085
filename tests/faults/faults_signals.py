"""What is the matter with single signals, or with one model, while all others are well.

Each is about signals of its own, which are not to hold up those that are written all the while.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence

from relay.worker.retry_policy import LONGEST_REFUSED_WAIT_SECONDS
from tests.support.waiting import eventually

from .fault import RELAYS, Act, Fault
from .faults_relay import AT_ONCE
from .relays import WORKERS
from .world import EXCHANGE, World
from .writer import KEYS

#: So many signals are the matter; more than one, so that they can be in the way of each other.
BAD_SIGNALS = 3

#: The signals of a model whose destinations do not exist, and the destinations.
DEAD_SIGNALS = 300
DEAD_KEYS = tuple(f"dead.{number}" for number in range(20))

#: Where nothing is bound, until a fault heals.
NOWHERE = "nowhere"

#: What is wrong is found within so many seconds. Halving, and tries that are seconds apart, are part of it.
FINDING_SECONDS = 30.0

#: While something is the matter with others, a healthy signal arrives within so many seconds.
FLOWING_SECONDS = 30.0

#: The records of some signals. Those of other tables may have the same keys.
OF_SIGNALS = "table_name = 'signal' AND key = ANY(%s)"

FOREIGN_KEY = (
    "INSERT INTO holder SELECT id FROM neighbour WHERE number = ANY(%s)",
    "DELETE FROM holder",
)

TRIGGER = (
    "UPDATE neighbour SET kind = 'kept' WHERE number = ANY(%s)",
    "ALTER TABLE neighbour DISABLE TRIGGER keep",
    "ALTER TABLE neighbour ENABLE TRIGGER keep",
)


def undeletable(keep: str, let_go: str, restore: str = "") -> Act:
    """Some rows cannot be deleted, among others that can.

    :param keep: a statement that keeps some; ``let_go`` lets them be deleted, and ``restore`` is done after that.
    """

    def act(world: World, _chance: random.Random) -> Iterator[None]:
        numbers: list[int] = []

        def was_sent_and_is_kept() -> bool:
            # One that a relay finds by its rehearsal is not sent; the next ones are.
            numbers.extend(world.write(1, table="neighbour", also=keep))
            world.wait_until_sent(world.write(2, table="neighbour"), FLOWING_SECONDS)
            return bool(_undeleted(world, numbers))

        try:
            eventually(was_sent_and_is_kept, FINDING_SECONDS, "one is undeleted", every_seconds=0.2)
            _have_tried(world)
            eventually(lambda: max(_undeleted(world, numbers)) > 1, FINDING_SECONDS, "its delete is tried again")
            world.wait_until_sent(world.write(2), FLOWING_SECONDS)
            yield
            assert world.left(numbers) == len(numbers)
        finally:
            world.sql(let_go)
        _have_tried(world)
        world.wait_until_sent(numbers)
        if restore:
            world.sql(restore)

    return act


def unreadable(world: World, _chance: random.Random) -> Iterator[None]:
    before = world.write(5)
    numbers = world.write(BAD_SIGNALS, kind="unreadable")
    after = world.write(5)
    eventually(lambda: len(_noted(world, numbers, "invalid")) == BAD_SIGNALS, FINDING_SECONDS, "all are noted")
    world.wait_until_sent([*before, *after], FLOWING_SECONDS)
    yield
    assert world.left(numbers) == BAD_SIGNALS
    world.sql("UPDATE signal SET kind = 'good' WHERE number = ANY(%s)", numbers)
    world.wait_until_sent(numbers)


def note_locked(world: World, _chance: random.Random) -> Iterator[None]:
    numbers = _refused(world)
    with contextlib.ExitStack() as bound:
        # None of them is being tried while their notes are locked.
        world.sql("UPDATE signalbus_parked SET next_try_at = now() + interval '3 s'")
        with _notes_locked(world, numbers):
            bound.enter_context(_bound(world, NOWHERE))
            eventually(lambda: _are_due(world, numbers), LONGEST_REFUSED_WAIT_SECONDS, "all are due")
            world.wait_until_sent(world.write(2), FLOWING_SECONDS)
            yield
            assert world.left(numbers) == BAD_SIGNALS
        world.wait_until_sent(numbers)


def note_locked_in_between(world: World, _chance: random.Random) -> Iterator[None]:
    assert world.writer is not None
    numbers = _refused(world)
    with world.writer.resting(), contextlib.ExitStack() as stack:
        world.wait_until_sent(_others(world, numbers))
        world.arm("confirmed", "hang")
        stack.callback(world.disarm, "confirmed")
        stack.enter_context(_bound(world, NOWHERE))
        _have_tried(world)
        eventually(
            lambda: _are_locked(world, numbers) and world.bursts_in_flight() == len(world.reached("confirmed")),
            FINDING_SECONDS,
            "one is confirmed",
        )
        with _notes_locked(world, numbers):
            world.disarm("confirmed")
            eventually(lambda: world.left(numbers) < BAD_SIGNALS, FINDING_SECONDS, "it is deleted all the same")
            world.wait_until_sent(world.write(2), FLOWING_SECONDS)
            yield
        world.wait_until_sent(numbers)


def sender_hangs(world: World, _chance: random.Random) -> Iterator[None]:
    world.arm("sender", "hang")
    try:
        numbers = world.write(BAD_SIGNALS, kind="hangs", table="neighbour")
        eventually(lambda: world.reached("sender"), FINDING_SECONDS, "the send method hangs")
        world.wait_until_sent(world.write(2), FLOWING_SECONDS)
        eventually(
            lambda: any("Neighbour" in relay.says() for relay in world.living()), FINDING_SECONDS, "readiness names it"
        )
        world.wait_until_sent(world.write(2), FLOWING_SECONDS)
        yield
        assert world.left(numbers) == BAD_SIGNALS
    finally:
        world.disarm("sender")
    world.wait_until_sent(numbers)


def dead_destinations(world: World, _chance: random.Random) -> Iterator[None]:
    numbers = world.write(DEAD_SIGNALS, DEAD_KEYS, table="neighbour")
    eventually(
        lambda: len(_noted(world, numbers, "returned", "neighbour")) == DEAD_SIGNALS, FINDING_SECONDS, "all are noted"
    )
    world.wait_until_sent(world.write(2), FLOWING_SECONDS)
    yield
    assert world.left(numbers) == DEAD_SIGNALS
    with _bound(world, "dead.#"):
        world.wait_until_sent(numbers, LONGEST_REFUSED_WAIT_SECONDS + 30)


def _refused(world: World) -> list[int]:
    """Signals that wait for a destination, each with a note."""
    numbers = world.write(BAD_SIGNALS, [NOWHERE])
    eventually(lambda: len(_noted(world, numbers, "returned")) == BAD_SIGNALS, FINDING_SECONDS, "all are noted")
    return numbers


def _noted(world: World, numbers: Sequence[int], cause: str, table: str = "signal") -> list[int]:
    """The attempts that are noted of those of these signals that failed for this cause."""
    rows = world.ask(
        f"SELECT p.attempts FROM {table} s JOIN signalbus_parked p ON p.table_name = %s AND p.key = s.id::text"
        " WHERE s.number = ANY(%s) AND p.error_class = %s",
        table,
        list(numbers),
        cause,
    )
    return [row[0] for row in rows]


def _undeleted(world: World, numbers: Sequence[int]) -> list[int]:
    return _noted(world, numbers, "undeleted", "neighbour")


def _are_due(world: World, numbers: Sequence[int]) -> bool:
    """Whether the next try of all of them has come."""
    due = f"SELECT count(*) FROM signalbus_parked WHERE next_try_at <= now() AND {OF_SIGNALS}"
    return bool(world.ask(due, _keys(world, numbers))[0][0] == len(numbers))


def _keys(world: World, numbers: Sequence[int]) -> list[str]:
    return [row[0] for row in world.sql("SELECT id::text FROM signal WHERE number = ANY(%s)", list(numbers))]


def _others(world: World, numbers: Sequence[int]) -> list[int]:
    return [row[0] for row in world.sql("SELECT number FROM signal WHERE number <> ALL(%s)", list(numbers))]


def _are_locked(world: World, numbers: Sequence[int]) -> bool:
    """Whether a burst has some of these signals."""
    free = world.ask("SELECT 1 FROM signal WHERE number = ANY(%s) FOR UPDATE SKIP LOCKED", list(numbers))
    return len(free) < len(numbers)


def _have_tried(world: World) -> None:
    """Have all failed signals tried at once, as an operator does."""
    world.sql("UPDATE signalbus_parked SET next_try_at = now()")


@contextlib.contextmanager
def _notes_locked(world: World, numbers: Sequence[int]) -> Iterator[None]:
    with world.transaction() as cursor:
        cursor.execute(f"SELECT 1 FROM signalbus_parked WHERE {OF_SIGNALS} FOR UPDATE", (_keys(world, numbers),))
        assert cursor.rowcount == len(numbers)
        yield


@contextlib.contextmanager
def _bound(world: World, key: str) -> Iterator[None]:
    """What has this key goes to a queue."""
    queue = KEYS[0]
    with world.channel() as channel:
        channel.queue_bind(queue, EXCHANGE, key)
    try:
        yield
    finally:
        with world.channel() as channel:
            channel.queue_unbind(queue, EXCHANGE, key)


FAULTS = [
    Fault(
        "signals: kept by a foreign key",
        undeletable(*FOREIGN_KEY),
        "They were sent, and are in their table until the database lets them go; what is tried again is their delete.",
        says="ready",
        relays=0,
        interruptions=2,
        most_often=1,
    ),
    Fault(
        "signals: kept by a trigger, without an error",
        undeletable(*TRIGGER),
        "The same, where the database reports nothing but the number of rows.",
        says="ready",
        relays=0,
        most_often=1,
    ),
    Fault(
        "signals: cannot be read",
        unreadable,
        "The database fails to compute a column of them. Mended, they are new signals.",
        says="ready",
        relays=0,
        most_often=1,
    ),
    Fault(
        "signals: note locked when it is due",
        note_locked,
        "Whoever holds the note holds its signal, and nobody else's.",
        says="ready",
        relays=0,
        most_often=1,
    ),
    Fault(
        "signals: note locked between confirm and delete",
        note_locked_in_between,
        "The signal is deleted without its note.",
        says="ready",
        relays=0,
        most_often=1,
    ),
    Fault(
        "model: its send method hangs",
        sender_hangs,
        "Readiness names it. The database ends its transaction at the idle timeout; then its signals are anybody's "
        "again, so that each worker may come to send them. The other model flows.",
        lasts=AT_ONCE,
        most_often=WORKERS * RELAYS,
        weight=0.2,
    ),
    Fault(
        "model: all its destinations are dead",
        dead_destinations,
        "What was returned has not arrived. The other model flows.",
        says="ready",
        relays=0,
        most_often=1,
        weight=0.5,
    ),
]
