"""The thread that tells the other relays of this one, and reads what they say.

Invariant: nothing waits for it. Whatever fails here is shown as the reason why the other relays are not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Table
from sqlalchemy.engine import Engine

from signalbus_core.lowlevel import RELAYS, BurstLimits, autocommit, error_text, is_away

from ..telemetry.health import DATABASE_AWAY
from . import rows
from .replica import OwnReport, Replica

#: The pause between two statements. Longer: fewer statements, and numbers of the others that are older.
EVERY_SECONDS = 5.0

#: The pause before a table that cannot be used is looked for again.
AGAIN_SECONDS = 60.0

#: At its end the relay waits so long for its row to be removed.
LEAVE_WITHIN_SECONDS = 1.0

#: Limits of each statement.
LIMITS = BurstLimits(statement_timeout_seconds=5.0, lock_timeout_seconds=1.0, idle_timeout_seconds=10.0)

NOT_LOOKED_FOR = "other relays are not looked for"


@dataclass(frozen=True)
class Place:
    """Where the rows are.

    :param engine: for nothing else.
    :param application: the application whose relays know each other.
    :param database_problem: why the database does not answer, as its poller knows; None when it does.
    """

    engine: Engine
    table: Table
    application: str
    database_problem: Callable[[], str | None] = lambda: None


class Replicas:
    """This relay and the others.

    :param place: None when this relay neither tells nor reads.
    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, own: OwnReport, place: Place | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.own = own
        self._place = place
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, name="replicas", daemon=True)
        self._is_usable = False
        self._others: tuple[Sequence[Replica], float] = ((), clock())
        #: Why the others are not known, or not up to date; None when they are.
        self.problem: str | None = NOT_LOOKED_FOR

    def start(self) -> None:
        if self._place is not None:
            self._thread.start()

    def close(self) -> None:
        """End the thread, and remove the row; do not wait long for that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_WITHIN_SECONDS)

    def run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self.run_once())
        self._try(self._remove)

    def run_once(self) -> float:
        """Tell and read once.

        :returns: the seconds until the next time.
        """
        if self._place is not None and self._place.database_problem() is not None:
            self.problem = DATABASE_AWAY
            return EVERY_SECONDS
        return self._try(self._exchange)

    def shown(self) -> list[Replica]:
        """This relay first, then the others by name, as they were read last.

        While they cannot be read, that says nothing about them: they become no older.
        """
        others, at = self._others
        passed = self._clock() - at if self.problem is None else 0.0
        known = [replace(one, silent_seconds=one.silent_seconds + passed) for one in others]
        return [self.own.now(), *sorted(known, key=lambda one: (one.name, one.id))]

    def _try(self, work: Callable[[Place], float]) -> float:
        if self._place is None:
            return AGAIN_SECONDS
        try:
            return work(self._place)
        except Exception as error:  # noqa: BLE001 - it is shown; the relay goes on without
            # PostgreSQL logs each statement that fails: one that fails again is tried less often.
            lasts = self.problem is not None and not is_away(error)
            self._is_usable = False
            self.problem = error_text(error)
            return AGAIN_SECONDS if lasts else EVERY_SECONDS

    def _exchange(self, place: Place) -> float:
        with autocommit(place.engine, LIMITS) as connection:
            if not self._is_usable:
                problem = RELAYS.problem(connection, place.table, for_change=True)
                if problem is not None:
                    self._others = (), self._clock()
                    self.problem = f"the table {place.table.fullname} {problem}"
                    return AGAIN_SECONDS
                self._is_usable = True
            self._others = rows.exchange(connection, place.table, place.application, self.own.now()), self._clock()
        self.problem = None
        return EVERY_SECONDS

    def _remove(self, place: Place) -> float:
        if self._is_usable:
            with autocommit(place.engine, LIMITS) as connection:
                rows.remove(connection, place.table, self.own.id)
        place.engine.dispose()
        return 0.0
