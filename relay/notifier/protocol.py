"""Leader election and sleep locks: the notifier's protocol, over two sessions.

Invariant: no NOTIFY is missed, because of the order of the steps. LISTEN comes before the advisory sleep locks: a
producer that does not get its shared lock sends NOTIFY, which is received. The lock of a table is granted once the
transactions of all its producers that sent none have ended. The next poll finds what they committed. Only then the
notifier answers for this table, and once it does so for all, it sleeps.

Tables do not wait for each other: the locks that are free are taken at once, and the notifier waits for one of the
others at a time, in rotation.

It goes on sleeping while signals come one by one: each NOTIFY leads to a burst, and to no other statement. When there
are too many of them, the sleep lock of that table is released, so that its producers are silent, and workers look for
its signals in short steps. Once hardly anything is found, the notifier goes through its steps again, with that lock.

Two sessions, because one that waits for a lock receives no notification. The one that listens also holds the leader
locks: it is idle, so the server ends it at once when the relay is gone, and another relay takes over.

The sleep lock of a table whose model is paused is released, so that its producers send no NOTIFY. When the model is
resumed, the notifier goes through these steps again, with that lock too.
"""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

from psycopg2.errors import LockNotAvailable

from signalbus_core.lowlevel import doorbell

from ..runtime import Runtime
from ..scheduler.ring_rate import RingRate
from .connection import AsyncConnection, Waker, run, wait
from .wakeups import Wakeups

#: The longest wait between two calls of ``Events.progressed``.
LONGEST_WAIT_SECONDS = 0.5

#: A relay that is not the leader of a table tries to become it at this interval. Shorter: a dead leader is replaced
#: sooner; longer: fewer statements of the replicas.
TRY_EVERY_SECONDS = 15.0

#: The lock timeout for a sleep lock behind a long transaction; then the others have their turn. Longer: fewer lines in
#: the server's log; shorter: producers of another table that send NOTIFY too often become silent sooner, and the lock
#: of one where hardly anything is found any more is taken sooner.
SLEEP_LOCK_TIMEOUT_SECONDS = 30

#: Settings of a session that is idle on purpose, and that the server must end soon after its client is gone.
PREPARE = (
    "SET statement_timeout = 0; SET idle_session_timeout = 0; SET tcp_keepalives_idle = 15; "
    f"SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET lock_timeout = '{SLEEP_LOCK_TIMEOUT_SECONDS}s'"
)


class State(enum.Enum):
    """The state of the notifier."""

    CANDIDATE = "another relay answers the doorbells"
    QUEUEING = "waits for a sleep lock"
    POLLING = "has them, and waits until polls have covered every row"
    ASLEEP = "waits for a doorbell"


class LeaderProtocol:
    """Takes part in the leader election of some tables, and answers the doorbells of those that it leads.

    :param name: of the notifier.
    :param listener: the session with LISTEN and the leader locks. The protocol opens another one, which waits for the
        sleep locks, once it leads a table.
    :param tables: the OIDs of the tables, each with the name of its model.
    :param wakeups: what a NOTIFY leads to.
    :param paused: the names of the models that were paused in the last poll.
    """

    def __init__(
        self,
        name: str,
        listener: AsyncConnection,
        tables: Mapping[int, str],
        wakeups: Wakeups,
        waker: Waker,
        paused: Container[str],
        runtime: Runtime,
    ) -> None:
        self.state = State.CANDIDATE
        self._name = name
        self._listener = listener
        self._locker: AsyncConnection | None = None
        self._tables = tables
        self._led: set[int] = set()
        self._locked: set[int] = set()
        #: The tables whose producers are silent because they would send NOTIFY too often.
        self._busy: set[int] = set()
        self._rates = {oid: RingRate() for oid in tables}
        self._oids = {doorbell.channel_of(oid): oid for oid in tables}
        self._wakeups = wakeups
        self._requests = wakeups.requests
        self._waker = waker
        self._paused = paused
        self._stop = runtime.stop
        self._clock = runtime.clock
        #: The table whose sleep lock it waits for, and the number of the last wait for each.
        self._awaited: int | None = None
        self._waited: dict[int, int] = {}
        self._waits = 0
        self._next_try = self._clock()
        #: How often it went to sleep, and how often a NOTIFY woke it.
        self.sleeps = self.rings = 0

    def begin(self) -> None:
        """Prepare the session for a long wait."""
        self._run(self._listener, PREPARE)

    def close(self) -> None:
        """Release all locks; producers send no NOTIFY once the server has noticed."""
        self._requests.set_notifier(self._name)
        self._wakeups.end_steps(self._models(self._led))
        if self._locker is not None:
            self._locker.close()

    def check_sessions(self) -> None:
        """Make sure that the sessions answer.

        :raises SessionError: one does not.
        """
        if self._led == self._tables.keys():
            # Else the election queries it often enough.
            self._run(self._listener, "SELECT 1")
        if self._locker is not None and self._awaited is None:
            self._run(self._locker, "SELECT 1")

    def run_once(self) -> Collection[int]:
        """Take the steps that are due, then wait for an event, for half a second at most.

        :returns: the OIDs of the tables that this relay leads from now on.
        """
        won: Collection[int] = ()
        if self._led != self._tables.keys() and self._clock() >= self._next_try:
            won = self._stand_for_election()
        # Right before the wait: select() does not report a NOTIFY that arrived with the result of a statement.
        self._receive()
        self._step()
        wait(
            [self._listener] if self._locker is None else [self._listener, self._locker],
            self._waker,
            LONGEST_WAIT_SECONDS,
        )
        return won

    def _stand_for_election(self) -> Collection[int]:
        # Random, so that replicas do not try at the same time.
        self._next_try = self._clock() + random.uniform(0.7, 1.0) * TRY_EVERY_SECONDS
        rows = self._run(
            self._listener, _for_each(self._tables.keys() - self._led, "pg_try_advisory_lock", doorbell.LEADER_LOCK)
        )
        won = {oid for oid, is_won in rows if is_won}
        if not won:
            return ()
        # Before the sleep locks are requested. Only the leader listens: the others would be woken for nothing.
        self._run(self._listener, "; ".join(f'LISTEN "{doorbell.channel_of(oid)}"' for oid in sorted(won)))
        if self._locker is None:
            self._locker = self._listener.open_another()
            self._run(self._locker, None)
            self._run(self._locker, PREPARE)
        self._led |= won
        if self.state is not State.QUEUEING:
            self.state = State.POLLING
        return won

    def _step(self) -> None:
        if self.state is State.CANDIDATE:
            return
        if self._awaited is None or self._has_stopped_waiting():
            if self._busy:
                quiet = self._wakeups.quiet()
                self._busy = {oid for oid in self._busy if self._tables[oid] not in quiet}
            self._release(self._locked - self._to_lock())
            self._request_locks()
        self._tell()

    def _to_lock(self) -> set[int]:
        """The tables whose producers must send NOTIFY."""
        return {oid for oid in self._led - self._busy if self._tables[oid] not in self._paused}

    def _request_locks(self) -> None:
        """Take the locks that are free, then wait for one of the others, each in its turn."""
        missing = self._to_lock() - self._locked
        if missing:
            rows = self._run(self._locking_session, _for_each(missing, "pg_try_advisory_lock", doorbell.SLEEP_LOCK))
            self._granted({oid for oid, is_granted in rows if is_granted})
            missing -= self._locked
        if missing:
            self._awaited = min(missing, key=lambda oid: (self._waited.get(oid, 0), oid))
            self._waits += 1
            self._waited[self._awaited] = self._waits
            # From now on its producers send NOTIFY, because somebody waits for the lock.
            self._locking_session.send(_for_each({self._awaited}, "pg_advisory_lock", doorbell.SLEEP_LOCK))
            self._wakeups.end_steps(self._models({self._awaited}))

    def _has_stopped_waiting(self) -> bool:
        """Whether the lock that it waited for was granted, or will be requested again after the others."""
        granted = set[int]()
        with suppress(LockNotAvailable):
            if not self._locking_session.advance():
                return False
            granted = {oid for oid, _ in self._locking_session.rows()}
        self._awaited = None
        self._granted(granted)
        return True

    def _granted(self, oids: AbstractSet[int]) -> None:
        """Poll once more: that finds what was committed without a NOTIFY, and hands it to the workers."""
        self._locked = self._locked | oids
        models = self._models(oids)
        self._requests.cover(models)
        self._wakeups.end_steps(models)

    def _tell(self) -> None:
        """Tell the poller which models it answers for: their locks are held, and a poll has covered them since."""
        led = set(self._models(self._led))
        uncovered = self._requests.uncovered(led)
        answers = led - uncovered - set(self._models(self._to_lock() - self._locked))
        before = self.state
        if self._awaited is not None:
            self.state = State.QUEUEING
        else:
            self.state = State.POLLING if uncovered else State.ASLEEP
        if self.state is State.ASLEEP and before is not State.ASLEEP:
            self.sleeps += 1
        self._requests.set_notifier(self._name, answers=answers, awake=self.state is not State.ASLEEP)

    def _receive(self) -> None:
        self._listener.advance()
        if self._locker is not None and self._awaited is None:
            # It runs no statement: data to read means that the connection was closed.
            self._locker.advance()
        channels = [channel for channel, _ in self._listener.take_notifications()]
        # Only those of its tables: a late notification of the self-test is none of its own.
        rung = Counter(self._oids[channel] for channel in channels if channel in self._oids)
        if not rung:
            return
        self.rings += rung.total()
        self._wakeups.rung(self._models(rung))
        now = self._clock()
        busy = {oid for oid, rings in rung.items() if self._rates[oid].is_too_high(rings, now)} - self._busy
        if busy:
            self._busy |= busy
            self._wakeups.begin_steps(self._models(busy))

    def _release(self, oids: AbstractSet[int]) -> None:
        if oids:
            self._run(self._locking_session, _for_each(oids, "pg_advisory_unlock", doorbell.SLEEP_LOCK))
            self._locked = self._locked - oids

    def _models(self, oids: Iterable[int]) -> list[str]:
        return [self._tables[oid] for oid in oids]

    @property
    def _locking_session(self) -> AsyncConnection:
        assert self._locker is not None
        return self._locker

    def _run(self, session: AsyncConnection, statement: str | None) -> Sequence[tuple[int, bool]]:
        return run(session, statement, self._waker, self._stop)


def _for_each(oids: Iterable[int], function: str, key: int) -> str:
    """A call of a lock function for each table. Sorted, so that the plan scans the array in that order."""
    listed = ", ".join(map(str, sorted(oids)))
    return f"SELECT o, {function}({key}, CAST(CAST(o AS oid) AS int)) FROM unnest(CAST(ARRAY[{listed}] AS bigint[])) o"
