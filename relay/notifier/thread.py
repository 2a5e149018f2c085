"""The notifier's thread: one for each database whose signal tables have doorbells.

Invariant: it shortens latency and is never required. Without doorbells, without a session that receives notifications,
or while another relay is the leader, signals are found by polling, and one log line says why.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from contextlib import closing

import psycopg2
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core.lowlevel import SignalSpec, autocommit, error_text, find_doorbells

from ..poller.joint_query import POLL_LIMITS
from ..runtime import Runtime
from ..worker.backoff import Backoff
from .connection import AsyncConnection, SessionError, Stopped, Waker, run
from .notification_test import NothingReceivedError, check_notifications
from .protocol import LONGEST_WAIT_SECONDS, LeaderProtocol
from .wakeups import Wakeups

#: The interval at which the triggers and the sessions are checked, and at which a failed test of notifications is
#: repeated. Longer: a dropped trigger is noticed later.
CHECK_EVERY_SECONDS = 60.0

#: The incident is resolved once the sessions have lasted so long. Shorter: a flapping network is logged more often.
STEADY_AFTER_SECONDS = 5.0

#: While a database is away its sessions are opened again after at most so many seconds.
LONGEST_RETRY_SECONDS = 5.0


class NotifyListener:
    """Answers the doorbells of one database, or waits to take over from the leader.

    :param bind_key: of the database.
    :param specs: the models of that database.
    :param paused: the names of the paused models; their producers need not send NOTIFY.
    """

    def __init__(
        self,
        bind_key: str | None,
        engine: Engine,
        specs: Sequence[SignalSpec],
        wakeups: Wakeups,
        paused: Container[str],
        runtime: Runtime,
    ) -> None:
        self.name = "doorkeeper" if bind_key is None else f"doorkeeper-{bind_key}"
        self._thing = "Doorbell" if bind_key is None else f"Doorbell (bind {bind_key!r})"
        self._bind_key = bind_key
        self._servers = runtime.servers
        self._engine = engine
        self._specs = specs
        self._wakeups = wakeups
        self._paused = paused
        self._runtime = runtime
        self._events = runtime.events
        self._stop = runtime.stop
        self._clock = runtime.clock
        self._logger = runtime.logger
        self._backoff = Backoff(longest_seconds=LONGEST_RETRY_SECONDS)
        self._waker = Waker()
        # The tables that were logged last, so that they are logged once.
        self._missing: tuple[str, ...] = ()
        self._has_failed_self_test = False
        #: The running protocol, while the sessions are open.
        self.protocol: LeaderProtocol | None = None
        wakeups.on_change(self._waker.wake)

    def run(self) -> None:
        """The thread's main function."""
        while not self._stop.is_set():
            if self._servers.problem(self._bind_key) is not None:
                # The poller tries to reach the database, for all of the process.
                self._events.progressed(self.name)
                self._servers.wait_until_reached(self._bind_key, LONGEST_WAIT_SECONDS)
                continue
            try:
                pause_seconds = self._answer()
            except Stopped:
                return
            except (psycopg2.Error, SQLAlchemyError, SessionError, OSError) as error:
                self._events.raised(self._thing, "doorbell_lost", f"{error_text(error)}. Polling goes on.")
                pause_seconds = self._backoff.failed()
                # If the database is away, the poller is to know, however long it would have slept.
                self._wakeups.requests.poll_now()
            except Exception:
                self._logger.exception(
                    "%s: unexpected error; polling goes on.", self.name, extra={"action": "doorbell_error"}
                )
                pause_seconds = self._backoff.failed()
            self._wait(pause_seconds)

    def _wait(self, seconds: float) -> None:
        until = self._clock() + seconds
        while not self._stop.is_set() and (remaining := until - self._clock()) > 0:
            self._events.progressed(self.name)
            self._stop.wait(min(remaining, LONGEST_WAIT_SECONDS))

    def _answer(self) -> float:
        """Answer doorbells until something changes; return how many seconds to wait before the next try."""
        self._events.progressed(self.name)
        names = self._find_doorbells()
        if not names:
            return CHECK_EVERY_SECONDS
        with closing(AsyncConnection.open(self._engine)) as listener:
            run(listener, None, self._waker, self._stop)
            if not self._receives_notifications(listener):
                return CHECK_EVERY_SECONDS
            steady_at = self._clock() + STEADY_AFTER_SECONDS
            with closing(self._begin(listener, names)) as protocol:
                while self._find_doorbells() == names:
                    protocol.check_sessions()
                    until = self._clock() + CHECK_EVERY_SECONDS
                    while self._clock() < until:
                        self._events.progressed(self.name)
                        if won := protocol.run_once():
                            self._report_elected(names, won)
                        if self._stop.is_set():
                            raise Stopped
                        if self._clock() >= steady_at:
                            self._events.resolved(self._thing, "doorbell_back")
        return 0.0

    def _begin(self, listener: AsyncConnection, names: dict[int, str]) -> LeaderProtocol:
        protocol = LeaderProtocol(self.name, listener, names, self._wakeups, self._waker, self._paused, self._runtime)
        self.protocol = protocol
        protocol.begin()
        self._backoff.succeeded()
        return protocol

    def _find_doorbells(self) -> dict[int, str]:
        """The models whose tables have an enabled doorbell trigger, by the OIDs of the tables."""
        with autocommit(self._engine, POLL_LIMITS) as connection:
            doorbells = find_doorbells(connection, self._specs)
        missing = tuple(one.problem for one in doorbells if one.is_wanted and one.problem is not None)
        if missing and missing != self._missing:
            self._logger.info(
                "%s: signals of these models are found by polling, up to --poll-interval after they are written: %s",
                self._thing,
                " ".join(missing),
                extra={
                    "action": "doorbell_missing",
                    "signals": [one.spec.name for one in doorbells if one.is_wanted and not one.rings],
                },
            )
        self._missing = missing
        return {one.table_oid: one.spec.name for one in doorbells if one.rings and one.table_oid is not None}

    def _receives_notifications(self, listener: AsyncConnection) -> bool:
        try:
            check_notifications(listener, self._engine, self._waker, self._stop)
        except NothingReceivedError as error:
            if not self._has_failed_self_test:
                self._logger.warning("%s: %s", self._thing, error, extra={"action": "doorbell_deaf"})
            self._has_failed_self_test = True
            return False
        self._has_failed_self_test = False
        return True

    def _report_elected(self, names: dict[int, str], won: Collection[int]) -> None:
        answered = sorted(names[oid] for oid in won)
        self._logger.info(
            "%s: this relay answers for %s.",
            self._thing,
            ", ".join(answered),
            extra={"action": "doorbell_answered", "signals": answered},
        )
