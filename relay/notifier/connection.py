"""An asynchronous database session for the notifier, outside the pool.

Invariant: no wait for a lock or a notification blocks the thread, so it always notices a stop request. PostgreSQL
delivers notifications only to a session that runs no statement: the one that listens never waits for a lock.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE
from sqlalchemy.engine import Engine

#: The longest that opening a session, or a statement that waits for no lock, may take.
ANSWER_WITHIN_SECONDS = 10.0

#: The application_name in pg_stat_activity.
APPLICATION_NAME = "signalbus-relay doorkeeper"


class SessionError(Exception):
    """A session does not answer."""


class Stopped(Exception):
    """The relay is stopping."""


class Waker:
    """A pipe for poll(), through which another thread ends a wait."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def wake(self) -> None:
        # A full pipe ends the wait as well; after close() no thread waits.
        with suppress(OSError):
            os.write(self._write, b"!")

    def clear(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass


class AsyncConnection:
    """A session; at most one statement at a time.

    :param connection: an asynchronous connection of psycopg2, perhaps still connecting.
    :param engine: of its database.
    """

    def __init__(self, connection: Any, engine: Engine) -> None:
        self._connection = connection
        self._engine = engine
        self._cursor: Any = None
        self._state = POLL_READ

    @classmethod
    def open(cls, engine: Engine) -> AsyncConnection:
        """Connect as the engine does, with the parameters that the application and its event listeners add.

        The engine's driver may be psycopg 3: the parameters are read from a connection that it has opened.
        """
        pooled = engine.raw_connection()
        known: Any = pooled.driver_connection
        # Taken out of the pool and closed, so that the next try opens a new connection, with the present password.
        pooled.detach()
        try:
            parameters = _parameters(known) | {"application_name": APPLICATION_NAME}
        finally:
            pooled.close()
        session = cls(psycopg2.connect(**parameters, async_=True), engine)
        session._state = POLL_WRITE
        return session

    def open_another(self) -> AsyncConnection:
        """Connect to the same database."""
        return self.open(self._engine)

    def fileno(self) -> int:
        return int(self._connection.fileno())

    def close(self) -> None:
        self._connection.close()

    @property
    def events(self) -> int:
        """The events for poll()."""
        return select.POLLOUT if self._state == POLL_WRITE else select.POLLIN

    def send(self, statement: str) -> None:
        """Begin a statement."""
        self._cursor = self._connection.cursor()
        self._cursor.execute(statement)
        self._state = POLL_WRITE

    def advance(self) -> bool:
        """Do what can be done without waiting; return whether the statement has ended.

        :raises psycopg2.Error: it failed, or the connection is lost.
        """
        self._state = self._connection.poll()
        return bool(self._state == POLL_OK)

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows of the last statement."""
        return list(self._cursor.fetchall()) if self._cursor is not None and self._cursor.description else []

    def take_notifications(self) -> list[tuple[str, str]]:
        """Channel and payload of the notifications since the last call."""
        taken = [(one.channel, one.payload) for one in self._connection.notifies]
        self._connection.notifies.clear()
        return taken


def _parameters(connection: Any) -> dict[str, Any]:
    """The libpq parameters of this connection of psycopg2 or psycopg 3."""
    info = connection.info
    known: dict[str, Any] = info.dsn_parameters if hasattr(info, "dsn_parameters") else info.get_parameters()
    if known.get("sslcertmode") == "allow":
        # A newer libpq reports its default here, and an older one may not know the parameter.
        known = {name: value for name, value in known.items() if name != "sslcertmode"}
    # Neither driver includes the password in these.
    return known | ({"password": info.password} if info.password else {})


def wait(sessions: Sequence[AsyncConnection], waker: Waker, timeout_seconds: float) -> None:
    """Wait until one of the sessions, or the waker, is ready."""
    # Made anew, because it costs no system call: it waits once.
    waiting = select.poll()
    waiting.register(waker, select.POLLIN)
    for session in sessions:
        waiting.register(session, session.events)
    waiting.poll(math.ceil(timeout_seconds * 1000))
    waker.clear()


def run(session: AsyncConnection, statement: str | None, waker: Waker, stop: Any) -> list[tuple[Any, ...]]:
    """Run a statement that waits for no lock, or finish connecting; return its rows.

    :raises SessionError: there was no answer in time.
    :raises Stopped: the relay is stopping.
    """
    if statement is not None:
        session.send(statement)
    deadline = time.monotonic() + ANSWER_WITHIN_SECONDS
    woken = False
    while not session.advance():
        if stop.is_set():
            raise Stopped
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise SessionError(f"no answer within {ANSWER_WITHIN_SECONDS:g} s")
        wait([session], waker, min(remaining, 0.5))
        woken = True
    if woken:
        # The wake-up may have been meant for the caller's own wait.
        waker.wake()
    return session.rows()
