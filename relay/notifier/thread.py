"""The notifier's thread: one for each database whose signal tables have doorbells.

Invariant: it shortens latency and is never required. Without doorbells, without a session that receives notifications,
or while another relay is the leader, signals are found by polling, and one log line says why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Container, Sequence
from contextlib import closing
from functools import partial

import psycopg2
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core.lowlevel import SignalSpec, autocommit, error_text, find_doorbells

from ..poller.isolation import PROBE_LIMITS
from ..poller.requests import PollRequests
from ..telemetry.health import Health
from ..telemetry.incidents import Incidents
from ..worker.backoff import Backoff
from .connection import AsyncConnection, SessionError, Stopped, Waker, run
from .protocol import LONGEST_WAIT_SECONDS, LeaderProtocol
from .self_test import HeardNothing, test_hearing

logger = logging.getLogger("signalbus.relay")

#: The interval at which the triggers and the sessions are checked, and at which a failed self-test is repeated. Longer:
#: a dropped trigger is noticed later.
CHECK_EVERY_SECONDS = 60.0

#: The incident is resolved once the sessions have lasted so long. Shorter: a flapping network is logged more often.
STEADY_AFTER_SECONDS = 5.0

#: While a database is away its sessions are opened again after at most so many seconds.
LONGEST_RETRY_SECONDS = 5.0


class NotifyListener:
    """Answers the doorbells of one database, or waits to take over from the leader.

    :param bind_key: of the database.
    :param specs: the models of that database.
    :param paused: returns the names of the paused models; their producers need not send NOTIFY.
    :param clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        bind_key: str | None,
        engine: Engine,
        specs: Sequence[SignalSpec],
        looks: PollRequests,
        health: Health,
        incidents: Incidents,
        stop: threading.Event,
        paused: Container[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = "doorkeeper" if bind_key is None else f"doorkeeper-{bind_key}"
        self._thing = "Doorbell" if bind_key is None else f"Doorbell (bind {bind_key!r})"
        self._engine = engine
        self._specs = specs
        self._looks = looks
        self._health = health
        self._incidents = incidents
        self._stop = stop
        self._paused = paused
        self._clock = clock
        self._backoff = Backoff(longest_seconds=LONGEST_RETRY_SECONDS)
        self._waker = Waker()
        # The tables that were logged last, so that they are logged once.
        self._missing: tuple[str, ...] = ()
        self._is_deaf = False
        #: The running protocol, while the sessions are open.
        self.vigil: LeaderProtocol | None = None
        looks.on_end(self._waker.wake)

    def run(self) -> None:
        """The thread's main function."""
        while not self._stop.is_set():
            try:
                pause_seconds = self._keep_watch()
            except Stopped:
                return
            except (psycopg2.Error, SQLAlchemyError, SessionError, OSError) as error:
                self._incidents.raised(self._thing, "doorbell_lost", f"{error_text(error)}. Polling goes on.")
                pause_seconds = self._backoff.failed()
            except Exception:
                logger.exception(
                    "%s: unexpected error; polling goes on.", self.name, extra={"action": "doorbell_error"}
                )
                pause_seconds = self._backoff.failed()
            self._rest(pause_seconds)

    def _rest(self, seconds: float) -> None:
        until = self._clock() + seconds
        while not self._stop.is_set() and (remaining := until - self._clock()) > 0:
            self._health.beat(self.name)
            self._stop.wait(min(remaining, LONGEST_WAIT_SECONDS))

    def _keep_watch(self) -> float:
        """Answer doorbells until something changes; return how many seconds to wait before the next try."""
        self._health.beat(self.name)
        names = self._find_bells()
        if not names:
            return CHECK_EVERY_SECONDS
        with closing(self._open_session()) as ear:
            run(ear, None, self._waker, self._stop)
            if not self._can_hear(ear):
                return CHECK_EVERY_SECONDS
            steady_at = self._clock() + STEADY_AFTER_SECONDS
            with closing(self._begin_vigil(ear, names)) as vigil:
                while self._find_bells() == names:
                    vigil.is_alive()
                    until = self._clock() + CHECK_EVERY_SECONDS
                    while self._clock() < until:
                        self._health.beat(self.name)
                        vigil.run_once()
                        if self._stop.is_set():
                            raise Stopped
                        if self._clock() >= steady_at:
                            self._incidents.resolved(self._thing, "doorbell_back")
        return 0.0

    def _begin_vigil(self, ear: AsyncConnection, names: dict[int, str]) -> LeaderProtocol:
        vigil = LeaderProtocol(
            self.name,
            ear,
            self._open_session,
            names,
            self._looks,
            self._waker,
            self._stop,
            partial(self._tell_elected, names),
            lambda: {oid for oid, name in names.items() if name in self._paused},
        )
        self.vigil = vigil
        vigil.begin()
        self._backoff.succeeded()
        return vigil

    def _open_session(self) -> AsyncConnection:
        return AsyncConnection.open(self._engine)

    def _find_bells(self) -> dict[int, str]:
        """The models whose tables have an enabled doorbell trigger, by the OIDs of the tables."""
        with autocommit(self._engine, PROBE_LIMITS) as connection:
            bells = find_doorbells(connection, self._specs)
        missing = tuple(bell.problem for bell in bells if bell.is_wanted and bell.problem is not None)
        if missing and missing != self._missing:
            logger.info(
                "%s: signals of these models are found by polling, up to --poll-interval after they are written: %s",
                self._thing,
                " ".join(missing),
                extra={
                    "action": "doorbell_missing",
                    "signals": [bell.spec.name for bell in bells if bell.is_wanted and not bell.rings],
                },
            )
        self._missing = missing
        return {bell.table_oid: bell.spec.name for bell in bells if bell.rings and bell.table_oid is not None}

    def _can_hear(self, ear: AsyncConnection) -> bool:
        try:
            test_hearing(ear, self._engine, self._waker, self._stop)
        except HeardNothing as error:
            if not self._is_deaf:
                logger.warning("%s: %s", self._thing, error, extra={"action": "doorbell_deaf"})
            self._is_deaf = True
            return False
        self._is_deaf = False
        return True

    def _tell_elected(self, names: dict[int, str], won: Collection[int]) -> None:
        answered = sorted(names[oid] for oid in won)
        logger.info(
            "%s: this relay answers for %s.",
            self._thing,
            ", ".join(answered),
            extra={"action": "doorbell_answered", "signals": answered},
        )
