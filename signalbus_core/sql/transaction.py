"""Transactions and questions at READ COMMITTED, with time limits and planner settings said in the first message.

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

#: Statements that hold for the rest of the transaction.
FOLLOW_THE_INDEX = tuple(f"SET LOCAL {name} = off" for name in _SETTINGS)

#: Statements that hold for the rest of the transaction: rows are looked up by each of the keys that are given, and the
#: table is not read instead. For a table that counts as small, or is full of dead rows, reading it looks cheaper.
LOOK_UP_KEYS = ("SET LOCAL enable_hashjoin = off", "SET LOCAL enable_mergejoin = off", "SET LOCAL jit = off")

#: Statements that hold for the rest of the transaction: rows are looked up by their places, however many they are.
LOOK_UP_PLACES = ("SET LOCAL enable_seqscan = off", "SET LOCAL jit = off")

#: Statements that end it before the transaction does.
PLAN_AS_USUAL = tuple(f"SET LOCAL {name} TO DEFAULT" for name in _SETTINGS)


#: The execution option of a statement that holds what is said before it.
SAID_FIRST = "signalbus_said_first"

#: In the notes that a connection keeps: what is to be run before the next statement.
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
    """In the block, ``undo`` is run before the first statement on the connection, if there is one."""
    # Whoever closes the session in the block takes the connection away, not the notes.
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
    """Time limits of one burst's transaction, enforced by PostgreSQL itself; they end with the transaction.

    :param statement_timeout_seconds: the longest that one statement may run.
    :param lock_timeout_seconds: the longest wait for a lock, for example behind an ``ALTER TABLE``.
    :param idle_timeout_seconds: the longest that the transaction may wait for the send method. Must be longer than
      the longest send, else the server ends the session, and the burst is sent again.

    https://www.postgresql.org/docs/current/runtime-config-client.html
    """

    statement_timeout_seconds: float = 30.0
    lock_timeout_seconds: float = 5.0
    idle_timeout_seconds: float = 120.0


DEFAULT_LIMITS = BurstLimits()


def begin(session: Session, spec: SignalSpec, limits: BurstLimits | None) -> Connection:
    """Begin a burst's transaction at READ COMMITTED, on the database of the model.

    Under REPEATABLE READ a row that another relay deleted meanwhile would be a serialization failure, not a skip.

    :param limits: of the transaction; None when they are said with its first statement.
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
    """A connection in a transaction of its own at READ COMMITTED, with time limits; it is committed at the end."""
    options = {"isolation_level": READ_COMMITTED} if has_read_committed(engine.dialect) else {}
    with engine.connect() as connection:
        connection = connection.execution_options(**options)
        set_limits(connection, limits, once=True)
        yield connection
        connection.commit()


def set_limits(connection: Connection, limits: BurstLimits, *, once: bool = False) -> None:
    """Set the time limits of the present transaction.

    :param once: what it asks for is not worth compiling.
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
    """The time limits as text for the first statement of a transaction; None where they have to be set on their own."""
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
    """A time limit as PostgreSQL's settings have it; zero would mean none."""
    return str(max(1, round(seconds * 1000)))


def has_read_committed(dialect: Dialect) -> bool:
    """Whether the database has the isolation level of bursts."""
    return dialect.name != "sqlite"


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
