"""A question to the database: one statement, in one message, with its time limits, in a transaction of its own.

A transaction takes four messages to read something: BEGIN, the limits, the statement, COMMIT. A relay that finds
nothing asks for its whole life, so it asks in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from .in_order import FOLLOW_THE_INDEX
from .statements import BurstLimits, milliseconds, run_all, transaction


@contextmanager
def question(engine: Engine, limits: BurstLimits, *, in_order: bool = False) -> Iterator[Connection]:
    """A connection on which each statement is a transaction of its own, with time limits, and is sent in one message.

    - What is read by one statement is one snapshot; two statements may see different ones.
    - It works behind a pooler in transaction mode: nothing is set for longer than the statement runs.
    - Other drivers than psycopg2, which cannot send several statements at once, get an ordinary transaction.

    :param in_order: scans of a table in the order of its key follow the index.
    """
    if engine.dialect.name != "postgresql" or engine.dialect.driver != "psycopg2":
        with transaction(engine, limits) as connection:
            if in_order and engine.dialect.name == "postgresql":
                run_all(connection, FOLLOW_THE_INDEX)
            yield connection
        return
    with engine.connect() as connection, _autocommit(connection.connection.driver_connection):
        event.listen(connection, "before_cursor_execute", _Prefix(limits, in_order), retval=True)
        yield connection
        connection.rollback()


@contextmanager
def _autocommit(driver_connection: Any) -> Iterator[None]:
    """Have the driver send neither BEGIN nor ROLLBACK, and nothing on the way there and back either.

    On the way back it would revert the isolation level of the session, unless that is its own default.
    https://www.psycopg.org/docs/connection.html#connection.set_session
    """
    if driver_connection.autocommit:
        yield
        return
    isolation_level, driver_connection.isolation_level = driver_connection.isolation_level, None
    driver_connection.autocommit = True
    try:
        yield
    finally:
        if not driver_connection.closed:
            driver_connection.autocommit = False
            driver_connection.isolation_level = isolation_level


class _Prefix:
    """Puts what is to hold for a statement before it.

    PostgreSQL runs the statements of one message in one transaction, at whose end SET LOCAL ends too, and times each of
    them by itself. https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
    """

    def __init__(self, limits: BurstLimits, in_order: bool) -> None:
        self._text = (
            f"SET LOCAL statement_timeout = {milliseconds(limits.statement_timeout_seconds)};"
            f" SET LOCAL lock_timeout = {milliseconds(limits.lock_timeout_seconds)};"
            # What is asked for once is not worth compiling.
            f" {'; '.join([*(FOLLOW_THE_INDEX if in_order else ('SET LOCAL jit = off',)), ''])}"
        )

    def __call__(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        return self._text + statement, parameters
