"""A database session that waits for the bell of sent signals, with psycopg2 or psycopg 3.

Invariant: the connection goes back to its pool without lock and LISTEN, or is closed.
"""

from __future__ import annotations

import logging
import math
import selectors
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..failures import is_late
from .bell import await_bursts, begin_waiting, end_waiting

logger = logging.getLogger("signalbus")

#: The drivers whose connections can be waited for.
DRIVERS = ("psycopg2", "psycopg")


class Listener:
    """Notifications of a connection that commits each statement by itself."""

    def __init__(self, connection: Connection) -> None:
        driver_connection: Any = connection.connection.driver_connection
        self._driver_connection = driver_connection
        self._is_psycopg2 = connection.dialect.driver == "psycopg2"
        self._received = False
        if not self._is_psycopg2:
            # A notification that arrives with the answer to a statement is given to handlers only.
            driver_connection.add_notify_handler(self._receive)

    def close(self) -> None:
        if self._is_psycopg2:
            self._driver_connection.notifies.clear()
        else:
            self._driver_connection.remove_notify_handler(self._receive)

    def wait(self, timeout_seconds: float) -> None:
        """Wait for a notification. It may end early; if the connection is lost, the next statement says so."""
        if timeout_seconds <= 0 or self._has_notification():
            return
        # Looked up anew: libraries of green threads replace it.
        with selectors.DefaultSelector() as selector:
            selector.register(self._driver_connection.fileno(), selectors.EVENT_READ)
            selector.select(timeout_seconds)

    def _has_notification(self) -> bool:
        connection = self._driver_connection
        try:
            if self._is_psycopg2:
                connection.poll()
                self._received = bool(connection.notifies)
                connection.notifies.clear()
            else:
                connection.pgconn.consume_input()
                while (notification := connection.pgconn.notifies()) is not None:
                    self._receive(notification)
        except Exception:
            logger.debug("The connection of a waiting request is lost.", exc_info=True)
            return True
        received, self._received = self._received, False
        return received

    def _receive(self, _notification: object) -> None:
        self._received = True


@contextmanager
def listening(connection: Connection, table_oid: int, timeout_seconds: float) -> Iterator[Listener]:
    """In the block, bursts of the table notify this connection. Those in flight at its beginning have ended."""
    begun = False
    try:
        connection.exec_driver_sql(begin_waiting(table_oid))
        begun = True
        listener = Listener(connection)
        try:
            _await_bursts(connection, table_oid, timeout_seconds)
            yield listener
        finally:
            listener.close()
    finally:
        if begun:
            _end(connection, table_oid)
        else:
            connection.invalidate()


def _await_bursts(connection: Connection, table_oid: int, timeout_seconds: float) -> None:
    milliseconds = max(1, math.ceil(timeout_seconds * 1000))
    try:
        connection.exec_driver_sql(await_bursts(table_oid, milliseconds))
    except DBAPIError as error:
        if not is_late(error):
            raise


def _end(connection: Connection, table_oid: int) -> None:
    try:
        connection.exec_driver_sql(end_waiting(table_oid))
    except SQLAlchemyError:
        # The server releases the lock when the session ends.
        connection.invalidate()
