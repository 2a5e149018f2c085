"""Transactions and queries at READ COMMITTED. Their time limits and planner settings end with the transaction, and are
sent in the same message as the statement where the driver can do that.

https://www.postgresql.org/docs/current/runtime-config-client.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.orm import Session

from ..model.contract import SignalSpec

_SETTINGS = ("enable_sort", "enable_bitmapscan", "jit")

#: Planner settings for the rest of the transaction: scans use the index of the key.
FOLLOW_THE_INDEX = tuple(f"SET LOCAL {name} = off" for name in _SETTINGS)

#: Planner settings for the rest of the transaction: rows are looked up by each given key, without a sequential scan,
#: which looks cheaper to the planner if the table counts as small, or is full of dead rows.
LOOK_UP_KEYS = ("SET LOCAL enable_hashjoin = off", "SET LOCAL enable_mergejoin = off", "SET LOCAL jit = off")

#: Planner settings for the rest of the transaction: any number of rows is looked up by ``ctid``.
LOOK_UP_PLACES = ("SET LOCAL enable_seqscan = off", "SET LOCAL jit = off")

#: Reset the settings of FOLLOW_THE_INDEX before the transaction ends.
PLAN_AS_USUAL = tuple(f"SET LOCAL {name} TO DEFAULT" for name in _SETTINGS)


#: The execution option with the settings that are sent in the same message as the statement.
SAID_FIRST = "signalbus_said_first"

#: The key in ``Connection.info`` for settings to run before the next statement.
_UNDO = "signalbus_undo"

_listening: WeakSet[Engine] = WeakSet()


def can_say_first(bind: Engine | Connection) -> bool:
    """Whether statements on new connections of this engine may have the option :data:`SAID_FIRST`.

    Not with drivers that prepare statements, or send each by itself.
    """
    if not isinstance(bind, Engine) or bind.dialect.name != "postgresql" or bind.dialect.driver != "psycopg2":
        return False
    if bind not in _listening:
        event.listen(bind, "before_cursor_execute", _say_first, retval=True)
        _listening.add(bind)
    return True


@contextmanager
def undone_for_others(connection: Connection, undo: str) -> Iterator[None]:
    """In the block, run ``undo`` before the first statement on the connection, if there is one."""
    # The settings are stored in Connection.info, so they survive session.close().
    notes = connection.info
    notes[_UNDO] = undo
    try:
        yield
    finally:
        notes.pop(_UNDO, None)


def _say_first(
    connection: Connection, _cursor: Any, statement: str, parameters: Any, context: Any, _executemany: bool
) -> tuple[str, Any]:
    undo = connection.info.pop(_UNDO, None)
    if undo is not None:
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(undo)
    first = context.execution_options.get(SAID_FIRST) if context is not None else None
    return (statement if first is None else first + statement), parameters


READ_COMMITTED = "READ COMMITTED"


@dataclass(frozen=True)
class BurstLimits:
    """Time limits of one burst's transaction, enforced by PostgreSQL; they end with the transaction.

    :param statement_timeout_seconds: the longest that one statement may run.
    :param lock_timeout_seconds: the longest wait for a lock, for example behind an ``ALTER TABLE``.
    :param idle_timeout_seconds: the longest that the transaction may wait for the send method. Must be longer than
      the longest send; otherwise the server ends the session, and the burst is sent again.

    https://www.postgresql.org/docs/current/runtime-config-client.html
    """

    statement_timeout_seconds: float = 30.0
    lock_timeout_seconds: float = 5.0
    idle_timeout_seconds: float = 120.0


DEFAULT_LIMITS = BurstLimits()


def begin(session: Session, spec: SignalSpec, limits: BurstLimits | None) -> Connection:
    """Begin a burst's transaction at READ COMMITTED, on the database of the model.

    Under REPEATABLE READ a row that another relay has just deleted would cause a serialization failure.

    :param limits: of the transaction; None when they are sent in the same message as its first statement.
    """
    dialect = session.get_bind(spec.mapper).dialect
    connection = session.connection(
        bind_arguments={"mapper": spec.mapper},
        execution_options={"isolation_level": READ_COMMITTED} if has_read_committed(dialect) else None,
    )
    if limits is not None:
        set_limits(connection, limits)
    return connection


@contextmanager
def transaction(engine: Engine, limits: BurstLimits) -> Iterator[Connection]:
    """A connection in its own transaction at READ COMMITTED, with time limits; it is committed at the end."""
    options = {"isolation_level": READ_COMMITTED} if has_read_committed(engine.dialect) else {}
    with engine.connect() as connection:
        connection = connection.execution_options(**options)
        set_limits(connection, limits, once=True)
        yield connection
        connection.commit()


def set_limits(connection: Connection, limits: BurstLimits, *, once: bool = False) -> None:
    """Set the time limits of the current transaction.

    :param once: also turn JIT off, because the transaction's query is not worth compiling.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            _SET_LIMITS_ONCE if once else _SET_LIMITS,
            {
                "statement": milliseconds(limits.statement_timeout_seconds),
                "lock": milliseconds(limits.lock_timeout_seconds),
                "idle": milliseconds(limits.idle_timeout_seconds),
            },
        )


_SET_LIMITS = text(
    "SELECT set_config('statement_timeout', :statement, true), set_config('lock_timeout', :lock, true),"
    " set_config('idle_in_transaction_session_timeout', :idle, true)"
)
_SET_LIMITS_ONCE = text(f"{_SET_LIMITS.text}, set_config('jit', 'off', true)")


def limits_to_say_first(session: Session, spec: SignalSpec, limits: BurstLimits) -> str | None:
    """The time limits as SQL for the message of the first statement; None where they need a separate statement."""
    if not can_say_first(session.get_bind(spec.mapper)):
        return None
    return (
        f"SET LOCAL statement_timeout = {milliseconds(limits.statement_timeout_seconds)};"
        f" SET LOCAL lock_timeout = {milliseconds(limits.lock_timeout_seconds)};"
        f" SET LOCAL idle_in_transaction_session_timeout = {milliseconds(limits.idle_timeout_seconds)}"
    )


def run_all(connection: Connection, settings: Iterable[str]) -> None:
    """Run statements that return nothing, in one message."""
    connection.exec_driver_sql("; ".join(settings))


def milliseconds(seconds: float) -> str:
    """A time limit for PostgreSQL's settings, at least 1 ms: zero would mean no limit."""
    return str(max(1, round(seconds * 1000)))


def has_read_committed(dialect: Dialect) -> bool:
    """Whether the database has the isolation level of bursts."""
    return dialect.name != "sqlite"


@contextmanager
def question(engine: Engine, limits: BurstLimits, *, in_order: bool = False) -> Iterator[Connection]:
    """A connection for queries: each statement is its own transaction, sent in one message with its time limits.

    - Each statement reads one snapshot; two statements may see different ones.
    - It works behind a pooler in transaction mode: settings end with the statement.
    - Other drivers than psycopg2, which cannot send several statements at once, use an ordinary transaction.

    :param in_order: scans in the order of the key use its index.
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
    """Put the driver into autocommit without extra round trips: it sends neither BEGIN nor ROLLBACK.

    On return it would reset the isolation level of the session, unless that is its default.
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
    """Puts the settings of a statement before it, in the same message.

    PostgreSQL runs the statements of one message in one transaction, with which SET LOCAL ends, and applies
    ``statement_timeout`` to each.
    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
    """

    def __init__(self, limits: BurstLimits, in_order: bool) -> None:
        self._text = (
            f"SET LOCAL statement_timeout = {milliseconds(limits.statement_timeout_seconds)};"
            f" SET LOCAL lock_timeout = {milliseconds(limits.lock_timeout_seconds)};"
            # A query that runs once is not worth JIT compilation.
            f" {'; '.join([*(FOLLOW_THE_INDEX if in_order else ('SET LOCAL jit = off',)), ''])}"
        )

    def __call__(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        return self._text + statement, parameters
