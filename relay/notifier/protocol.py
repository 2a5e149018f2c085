"""Answering bells: the doorkeeper's protocol, over its two sessions.

No wake-up is lost, because of the order of the steps. It listens before it asks for the sleep locks: from then on,
producers who do not get their shared lock ring, and are heard. It has the locks once every silent producer's
transaction has ended. The look that comes after that sees what they committed. Only then it sleeps.

Two sessions, because one that waits for a lock hears no bell. The one that listens also holds the notifier locks: it
is idle, so the server ends it at once when the relay is gone, and another relay takes over.

The sleep lock of a table whose model is paused is let go: its producers, who have nothing to wake, are silent. When the
model is resumed the notifier falls asleep anew, with that lock too.
"""

from __future__ import annotations

import enum
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet

from psycopg2.errors import LockNotAvailable

from signalbus_core.lowlevel import doorbell

from ..poller.requests import PollRequests
from .connection import AsyncConnection, Waker, run, wait

#: The longest wait without a sign of life.
LONGEST_WAIT_SECONDS = 0.5

#: A relay that does not answer the bell of a table tries so often to become its notifier. Shorter: a dead notifier
#: is replaced sooner; longer: fewer statements of the replicas.
TRY_EVERY_SECONDS = 15.0

#: The longest wait for the sleep locks behind a long transaction; then they are asked for anew, after a calm look.
#: Longer: fewer lines in the server's log; shorter: a relay that became busy spares its producers the bell sooner.
SLEEP_LOCK_TIMEOUT_SECONDS = 30

#: For a session that is idle on purpose, and whose client the server must miss soon when it is gone.
PREPARE = (
    "SET statement_timeout = 0; SET idle_session_timeout = 0; SET tcp_keepalives_idle = 15; "
    f"SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET lock_timeout = '{SLEEP_LOCK_TIMEOUT_SECONDS}s'"
)


class State(enum.Enum):
    """Where the notifier is; the sleep locks are held in the last two."""

    CANDIDATE = "another relay answers the bells"
    AWAKE = "waits for a calm look"
    QUEUEING = "waits for the sleep locks"
    LOOKING = "waits for the last look"
    ASLEEP = "waits for a bell"


class LeaderProtocol:
    """Answers the bells of some tables.

    :param name: of the notifier.
    :param ear: the session that listens.
    :param open_hand: opens the session that waits for locks.
    :param oids: the OIDs of the tables.
    :param on_elected: called with the OIDs whose bells this relay answers from now on.
    :param find_paused: tells the OIDs of the tables whose models are paused, as the last look saw it.
    """

    def __init__(
        self,
        name: str,
        ear: AsyncConnection,
        open_hand: Callable[[], AsyncConnection],
        oids: Collection[int],
        looks: PollRequests,
        waker: Waker,
        stop: threading.Event,
        on_elected: Callable[[Collection[int]], None],
        find_paused: Callable[[], Collection[int]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = State.CANDIDATE
        self._name = name
        self._ear = ear
        self._open_hand = open_hand
        self._hand: AsyncConnection | None = None
        self._oids = set(oids)
        self._kept: set[int] = set()
        self._locked: set[int] = set()
        self._looks = looks
        self._waker = waker
        self._stop = stop
        self._on_elected = on_elected
        self._find_paused = find_paused
        self._clock = clock
        self._look = 0
        self._next_try = clock()
        #: How often it fell asleep, and how often it was rung.
        self.sleeps = self.rings = 0

    def begin(self) -> None:
        """Listen. Only now may the locks be asked for."""
        listen = (f'LISTEN "{doorbell.channel_of(oid)}"' for oid in sorted(self._oids))
        self._run(self._ear, "; ".join([PREPARE, *listen]))

    def close(self) -> None:
        """Let go of everything; producers are silent again when the server has noticed."""
        self._looks.set_notifier(self._name, asleep=None)
        if self._hand is not None:
            self._hand.close()

    def is_alive(self) -> None:
        """Make sure that the sessions answer.

        :raises SessionError: one does not.
        """
        if self._kept == self._oids:
            # Else it is asked often enough, when it tries for more.
            self._run(self._ear, "SELECT 1")
        if self._hand is not None and self.state is not State.QUEUEING:
            self._run(self._hand, "SELECT 1")

    def run_once(self) -> None:
        """Do what is to be done now, then wait for something to happen, for half a second at most."""
        if self._kept != self._oids and self._clock() >= self._next_try:
            self._try_for_bells()
        # Right before the wait: a bell that came with the answer to a statement makes the session ready no more.
        self._hear()
        self._step()
        wait([self._ear] if self._hand is None else [self._ear, self._hand], self._waker, LONGEST_WAIT_SECONDS)

    def _try_for_bells(self) -> None:
        # Drawn at random, so that replicas do not try together.
        self._next_try = self._clock() + random.uniform(0.7, 1.0) * TRY_EVERY_SECONDS
        rows = self._run(
            self._ear, _for_each(self._oids - self._kept, "pg_try_advisory_lock", doorbell.DOORKEEPER_LOCK)
        )
        won = {oid for oid, is_won in rows if is_won}
        if not won:
            return
        if self._hand is None:
            self._hand = self._open_hand()
            self._run(self._hand, None)
            self._run(self._hand, PREPARE)
        self._kept |= won
        self._on_elected(won)
        if self.state is not State.QUEUEING:
            # Whoever sleeps has to fall asleep again, with the new tables.
            self._stay_awake(self._looks.ask())

    def _step(self) -> None:
        if self.state is State.CANDIDATE:
            return
        if self.state is State.QUEUEING:
            self._queue()
            return
        number, calm = self._looks.last()
        if number < self._look:
            return
        if calm and self.state is State.LOOKING and not self._looks.were_calm(self._look):
            # That look alone was to see every key. A calm one after it may have begun above what it failed to see.
            self._wake(self._looks.ask())
            return
        self._let_go(self._locked - self._to_lock())
        self._look = number + 1
        if not calm:
            self._wake(self._look)
        elif self.state is State.AWAKE:
            self._ask_for_locks()
        elif self._to_lock() - self._locked:
            # A model was resumed: what its producers wrote silently until now is seen by a look after the locks.
            self._stay_awake(self._looks.ask())
        else:
            self._sleep()

    def _to_lock(self) -> set[int]:
        """The tables whose producers must ring while it sleeps."""
        return self._kept.difference(self._find_paused())

    def _ask_for_locks(self) -> None:
        self.state = State.QUEUEING
        self._hand_session.send(_for_each(self._to_lock() - self._locked, "pg_advisory_lock", doorbell.SLEEP_LOCK))

    def _queue(self) -> None:
        try:
            if not self._hand_session.advance():
                return
        except LockNotAvailable:
            # Some of the locks may be there already.
            self._run(self._hand_session, _RELEASE)
            self._locked.clear()
            self._stay_awake(self._looks.ask())
            return
        self._locked |= {oid for oid, _ in self._hand_session.rows()}
        if self._to_lock() - self._locked:
            self._ask_for_locks()
            return
        self.state = State.LOOKING
        self._look = self._looks.ask(thorough=True)

    def _sleep(self) -> None:
        if self.state is not State.ASLEEP:
            self.state = State.ASLEEP
            self.sleeps += 1
            self._looks.set_notifier(self._name, asleep=True)

    def _hear(self) -> None:
        self._ear.advance()
        if self._hand is not None and self.state is not State.QUEUEING:
            # It runs nothing: whatever is to be read here is the end of it.
            self._hand.advance()
        rung = self._ear.take_notifications()
        if not rung:
            return
        self.rings += len(rung)
        look = self._looks.ask(cause="doorbell")
        if self.state in (State.LOOKING, State.ASLEEP):
            self._wake(look)
        elif self.state is State.AWAKE:
            self._look = look

    def _wake(self, look: int) -> None:
        """Have producers be silent, and wait for a look that finds all quiet, from ``look`` on."""
        self._let_go(self._locked)
        self._stay_awake(look)

    def _let_go(self, oids: AbstractSet[int]) -> None:
        if oids:
            self._run(self._hand_session, _for_each(oids, "pg_advisory_unlock", doorbell.SLEEP_LOCK))
            self._locked = self._locked - oids

    def _stay_awake(self, look: int) -> None:
        self.state = State.AWAKE
        self._look = look
        self._looks.set_notifier(self._name, asleep=False)

    @property
    def _hand_session(self) -> AsyncConnection:
        assert self._hand is not None
        return self._hand

    def _run(self, session: AsyncConnection, statement: str | None) -> Sequence[tuple[int, bool]]:
        return run(session, statement, self._waker, self._stop)


def _for_each(oids: Iterable[int], function: str, key: int) -> str:
    """A call for the lock of each table. Sorted, so that the plan is a scan of the array in that order."""
    listed = ", ".join(map(str, sorted(oids)))
    return f"SELECT o, {function}({key}, CAST(CAST(o AS oid) AS int)) FROM unnest(CAST(ARRAY[{listed}] AS bigint[])) o"


#: Lets go of those sleep locks that the session has. Asking for more would make the server warn of each.
_RELEASE = (
    "SELECT CAST(objid AS bigint), pg_advisory_unlock(CAST(classid AS int), CAST(objid AS int)) FROM pg_locks "
    f"WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = {doorbell.SLEEP_LOCK} "
    "AND pid = pg_backend_pid()"
)
