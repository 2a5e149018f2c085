"""Transactions and queries at READ COMMITTED. Their time limits and planner settings end with the transaction.

Where the driver can do that, the settings are sent in the same message as the statement that they are for, in front of
it. PostgreSQL runs the statements of one message in one transaction, with which ``SET LOCAL`` ends, and applies
``statement_timeout`` to each.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
https://www.postgresql.org/docs/current/runtime-config-client.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

from sqlalchemy import CursorResult, event
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.orm import Session
from sqlalchemy.sql import Executable

from ..model.contract import SignalSpec

_SETTINGS = ("enable_sort", "enable_bitmapscan", "jit")

#: Planner settings for the rest of the transaction: scans use the index of the key.
FOLLOW_THE_INDEX = tuple(f"SET LOCAL {name} = off" for name in _SETTINGS)

#: Planner settings for the rest of the transaction: rows are looked up by each given key, without a sequential scan,
#: which looks cheaper to the planner if the table counts as small, or is full of dead rows.
LOOK_UP_KEYS = ("SET LOCAL enable_hashjoin = off", "SET LOCAL enable_mergejoin = off", "SET LOCAL jit = off")

#: Planner settings for the rest of the transaction: any number of rows is looked up by ``ctid``.
LOOK_UP_CTIDS = ("SET LOCAL enable_seqscan = off", "SET LOCAL jit = off")

#: Reset the settings of FOLLOW_THE_INDEX before the transaction ends.
DEFAULT_PLANNER = tuple(f"SET LOCAL {name} TO DEFAULT" for name in _SETTINGS)

#: The settings of a query that runs once, and is not worth JIT compilation.
WITHOUT_JIT = ("SET LOCAL jit = off",)

#: The execution option with the settings of a statement, and the key in ``Connection.info`` of settings to run before
#: the next statement.
_SETTINGS_OPTION = "signalbus_settings"

#: Rows are read at once, whatever the application sets for its engine: a cursor of the server takes no other statement.
AT_ONCE: Mapping[str, Any] = MappingProxyType({"stream_results": False, "yield_per": None})

#: The key in ``Connection.info`` of statements that go in front of the next one, in the same message.
_IN_FRONT = "signalbus_in_front"

_listening: WeakSet[Engine] = WeakSet()


def settings_option(bind: Engine | Connection, settings: Iterable[str]) -> dict[str, str]:
    """The execution option that sends these settings in the message of the statement.

    :param bind: the engine; statements on its new connections may have the option.
    :returns: nothing with drivers that prepare statements, or send each by itself.
    """
    if not isinstance(bind, Engine) or bind.dialect.name != "postgresql" or bind.dialect.driver != "psycopg2":
        return {}
    if bind not in _listening:
        event.listen(bind, "before_cursor_execute", _put_in_front, retval=True)
        _listening.add(bind)
    return {_SETTINGS_OPTION: "; ".join([*settings, ""])}


def execute_with(
    connection: Connection, settings: Iterable[str], statement: Executable, values: Any = None
) -> CursorResult[Any]:
    """Execute a statement with these settings: in one message, or after them where the driver cannot do that."""
    options = settings_option(connection.engine, settings)
    if not options and connection.dialect.name == "postgresql":
        run_all(connection, settings)
    return connection.execute(statement, values, execution_options=options)


def put_in_front(connection: Connection, statement: str) -> None:
    """Run a statement together with the next one on the connection: in one message where the driver can do that."""
    if settings_option(connection.engine, ()):
        connection.info[_IN_FRONT] = f"{statement}; "
    elif connection.dialect.name == "postgresql":
        run_all(connection, [statement])


@contextmanager
def resetting_planner(connection: Connection) -> Iterator[None]:
    """In the block, reset the planner settings before the first statement on the connection, if there is one."""
    # The settings are stored in Connection.info, so they survive session.close().
    info = connection.info
    info[_SETTINGS_OPTION] = DEFAULT_PLANNER
    try:
        yield
    finally:
        info.pop(_SETTINGS_OPTION, None)


def _put_in_front(
    connection: Connection, _cursor: Any, statement: str, parameters: Any, context: Any, _executemany: bool
) -> tuple[str, Any]:
    before = connection.info.pop(_SETTINGS_OPTION, None)
    if before is not None:
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute("; ".join(before))
    settings = context.execution_options.get(_SETTINGS_OPTION, "") if context is not None else ""
    return connection.info.pop(_IN_FRONT, "") + settings + statement, parameters


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

    @property
    def settings(self) -> tuple[str, ...]:
        """The statements that set them for the current transaction."""
        return (
            f"SET LOCAL statement_timeout = {_milliseconds(self.statement_timeout_seconds)}",
            f"SET LOCAL lock_timeout = {_milliseconds(self.lock_timeout_seconds)}",
            f"SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(self.idle_timeout_seconds)}",
        )


DEFAULT_LIMITS = BurstLimits()


def begin(session: Session, spec: SignalSpec, limits: BurstLimits | None) -> Connection:
    """Begin a burst's transaction at READ COMMITTED, on the database of the model.

    Under REPEATABLE READ a row that another relay has just deleted would cause a serialization failure.

    :param limits: of the transaction; None when they are sent in the same message as its first statement.
    """
    dialect = session.get_bind(spec.mapper).dialect
    connection = session.connection(
        bind_arguments={"mapper": spec.mapper},
        execution_options=_options(dialect),
    )
    if limits is not None:
        set_limits(connection, limits)
    return connection


def _options(dialect: Dialect) -> dict[str, Any]:
    return {**AT_ONCE, **({"isolation_level": READ_COMMITTED} if has_read_committed(dialect) else {})}


def set_limits(connection: Connection, limits: BurstLimits) -> None:
    """Set the time limits of the current transaction."""
    if connection.dialect.name == "postgresql":
        run_all(connection, limits.settings)


@contextmanager
def transaction(engine: Engine, limits: BurstLimits) -> Iterator[Connection]:
    """A connection in its own transaction at READ COMMITTED, with time limits; it is committed at the end."""
    with engine.connect() as connection:
        connection = connection.execution_options(**_options(engine.dialect))
        if engine.dialect.name == "postgresql":
            run_all(connection, (*limits.settings, *WITHOUT_JIT))
        yield connection
        connection.commit()


def run_all(connection: Connection, settings: Iterable[str]) -> None:
    """Run statements that return nothing, in one message."""
    connection.exec_driver_sql("; ".join(settings))


def _milliseconds(seconds: float) -> str:
    """A time limit for PostgreSQL's settings, at least 1 ms: zero would mean no limit."""
    return str(max(1, round(seconds * 1000)))


def has_read_committed(dialect: Dialect) -> bool:
    """Whether the database has the isolation level of bursts."""
    return dialect.name != "sqlite"


@contextmanager
def autocommit(engine: Engine, limits: BurstLimits, *, in_order: bool = False) -> Iterator[Connection]:
    """A connection for queries: each statement is its own transaction, sent in one message with its time limits.

    - Each statement reads one snapshot; two statements may see different ones.
    - It works behind a pooler in transaction mode: settings end with the statement.
    - Other drivers than psycopg2, which cannot send several statements at once, use an ordinary transaction.

    :param in_order: scans in the order of the key use its index.
    """
    options = settings_option(engine, (*limits.settings, *(FOLLOW_THE_INDEX if in_order else WITHOUT_JIT)))
    if not options:
        with transaction(engine, limits) as connection:
            if in_order and engine.dialect.name == "postgresql":
                run_all(connection, FOLLOW_THE_INDEX)
            yield connection
        return
    with engine.connect() as connection, _autocommit(connection.connection.driver_connection):
        yield connection.execution_options(**AT_ONCE, **options)
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
