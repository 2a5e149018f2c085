"""The SQL of bursts.

Each function builds or runs one statement and decides nothing. PostgreSQL is what they are written for; on other
databases (SQLite in tests) the parts that these lack are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CursorResult,
    Delete,
    Integer,
    Text,
    and_,
    any_,
    bindparam,
    func,
    literal_column,
    not_,
    null,
    select,
    text,
)
from sqlalchemy import delete as sql_delete
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.orm import Session, lazyload, undefer
from sqlalchemy.sql import ColumnElement, Select

from .contract import SignalSpec
from .first_statement import SAID_FIRST, can_say_first
from .in_order import FOLLOW_THE_INDEX, PLAN_AS_USUAL
from .keys import Key, has_key, has_loadable_key, has_number, has_other_key, is_from, numbers_of, parts
from .parked import LeaveOut, leaving_out
from .prepared import prepared

READ_COMMITTED = "READ COMMITTED"


@dataclass(frozen=True)
class Choice:
    """Which of a model's signals a burst may take.

    :param leave_out: which of those that are set aside it leaves alone.
    :param exclude: keys that it leaves alone.
    :param only: when given, it takes none but these.
    :param forgets: whether to remove what is noted of the signals that it sends, because some may be set aside.
    :param start: for models with a single integer key: no lower key is looked at, unless ``only`` names it.
    """

    leave_out: LeaveOut = LeaveOut.NOTHING
    exclude: tuple[Key, ...] = ()
    only: tuple[Key, ...] | None = None
    forgets: bool = False
    start: int | None = None


#: All signals.
EVERYTHING = Choice()


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
        set_limits(connection, limits)
        yield connection
        connection.commit()


def set_limits(connection: Connection, limits: BurstLimits) -> None:
    """Set the time limits of the present transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            _SET_LIMITS,
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
    """Run statements that return nothing, one after the other."""
    for setting in settings:
        connection.execute(text(setting))


def milliseconds(seconds: float) -> str:
    """A time limit as PostgreSQL's settings have it; zero would mean none."""
    return str(max(1, round(seconds * 1000)))


def has_read_committed(dialect: Dialect) -> bool:
    """Whether the database has the isolation level of bursts."""
    return dialect.name != "sqlite"


#: Which transaction wrote a row as it is now. A row under the same key with another one is another signal.
Writer = str | None


def lock_signals(
    session: Session, spec: SignalSpec, limit: int, choice: Choice, limits: str | None = None
) -> list[tuple[Any, Writer]]:
    """Lock and load up to ``limit`` of the chosen signals that nobody else has locked, lowest keys first.

    All columns are loaded, also deferred ones; relationships are left to be loaded when they are read, because an
    outer join cannot be locked.

    :param limits: time limits, said first.
    :returns: each signal, with the transaction that wrote it.
    """
    dialect = session.get_bind(spec.mapper).dialect
    has_start = choice.only is None and choice.start is not None
    if choice.only is None and not choice.exclude:
        shape = ("lock", dialect.name, choice.leave_out, has_start)
        statement = prepared(spec, shape, lambda: _loading(spec, dialect, choice, has_start=has_start))
    else:
        statement = _loading(spec, dialect, choice, has_start=has_start)
    # What the session has of a signal from before must not hide what is in its row now.
    options: dict[str, Any] = {"populate_existing": True} if session.identity_map or session.new else {}
    if limits is not None:
        settings = FOLLOW_THE_INDEX if follows_index(dialect, choice) else ()
        options[SAID_FIRST] = "; ".join([limits, *settings, ""])
    values = {"signalbus_limit": limit} | ({"signalbus_start": choice.start} if has_start else {})
    return [(signal, writer) for signal, writer in session.execute(statement, values, execution_options=options)]


def follows_index(dialect: Dialect, choice: Choice) -> bool:
    """Whether a scan for these signals is to follow the index of the key. Chosen keys are looked up in any order."""
    return dialect.name == "postgresql" and choice.only is None


def _loading(spec: SignalSpec, dialect: Dialect, choice: Choice, *, has_start: bool) -> Select[Any]:
    """The statement of bursts that choose alike; limit and start are its parameters."""
    statement = select(spec.model, _writer(dialect)).options(lazyload("*"), undefer("*"))
    if has_start:
        statement = statement.where(is_from(spec, bindparam("signalbus_start", type_=BigInteger)))
    limit = bindparam("signalbus_limit", type_=Integer)
    return locking(spec, dialect, replace(choice, start=None), limit, statement)


def lock_keys(connection: Connection, spec: SignalSpec, limit: int, choice: Choice) -> list[Key]:
    """Lock the same signals, and load no more than their keys."""
    statement = locking(spec, connection.dialect, choice, limit, select(*spec.primary_key))
    return [tuple(row) for row in connection.execute(statement)]


def locking(
    spec: SignalSpec, dialect: Dialect, choice: Choice, limit: int | ColumnElement[int], statement: Select[Any]
) -> Select[Any]:
    """A statement about a model as one that locks up to ``limit`` of the chosen signals, lowest keys first."""
    chosen = pending(spec, dialect, choice, statement)
    return chosen.order_by(*spec.primary_key).limit(limit).with_for_update(skip_locked=True)


def _writer(dialect: Dialect) -> ColumnElement[Any]:
    # https://www.postgresql.org/docs/current/ddl-system-columns.html
    return literal_column("xmin::text") if dialect.name == "postgresql" else null()


def delete_signals(
    connection: Connection, spec: SignalSpec, keys: Sequence[Key], writers: Collection[Writer] | None = None
) -> int:
    """Delete the signals with these keys.

    :param writers: when given, only rows that one of these transactions wrote. To be given where the rows are not
      locked: the application may have written a new signal under the key of one that is gone.
    :returns: how many rows were deleted.
    """
    deleted = 0
    for part in parts(connection.dialect, keys):
        numbers = numbers_of(spec, connection.dialect, part) if writers is None else None
        if numbers is None:
            statement = sql_delete(spec.table).where(*_these(spec, connection.dialect, part, writers))
            # Keys of several columns are found by a bitmap for each; without bitmaps the whole table would be read.
            options = {SAID_FIRST: "; ".join([*PLAN_AS_USUAL, ""])} if can_say_first(connection.engine) else {}
            result = connection.execute(statement, execution_options=options)
        else:
            statement = prepared(spec, "delete", lambda: _delete_numbers(spec))
            result = connection.execute(statement, {"signalbus_keys": numbers})
        deleted += cast("CursorResult[Any]", result).rowcount
    return deleted


def _delete_numbers(spec: SignalSpec) -> Delete:
    return sql_delete(spec.table).where(has_number(spec, bindparam("signalbus_keys", type_=Text)))


def count_existing(
    connection: Connection, spec: SignalSpec, keys: Sequence[Key], writers: Collection[Writer] | None = None
) -> int:
    """How many signals with these keys are in the table.

    :param writers: when given, only rows that one of these transactions wrote.
    """
    counting = select(func.count()).select_from(spec.table)
    return sum(
        connection.scalar(counting.where(*_these(spec, connection.dialect, part, writers))) or 0
        for part in parts(connection.dialect, keys)
    )


def _these(
    spec: SignalSpec, dialect: Dialect, keys: Sequence[Key], writers: Collection[Writer] | None
) -> list[ColumnElement[bool]]:
    conditions = [has_key(spec, dialect, keys)]
    if writers is not None and dialect.name == "postgresql":
        given = bindparam(None, sorted(writer for writer in writers if writer), type_=ARRAY(Text))
        conditions.append(literal_column("xmin::text") == any_(given))
    return conditions


def rehearse_delete(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> int | None:
    """Delete the signals and take it back, to learn before anything is sent whether they can be deleted at all.

    Foreign keys, triggers, privileges and deferred constraints show here.

    :returns: how many rows a delete removes; None where the database cannot take it back.
    :raises sqlalchemy.exc.DBAPIError: the delete fails. The transaction can only be rolled back then.
    """
    if connection.dialect.name != "postgresql":
        return None
    connection.execute(text("SAVEPOINT signalbus_rehearsal"))
    deleted = delete_signals(connection, spec, keys)
    connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    connection.execute(text("ROLLBACK TO SAVEPOINT signalbus_rehearsal"))
    connection.execute(text("RELEASE SAVEPOINT signalbus_rehearsal"))
    return deleted


def count_pending(session: Session, spec: SignalSpec, limit: int | None) -> int:
    """How many signals are in the table; with a limit, counting stops there."""
    rows = select(*spec.primary_key).select_from(spec.model).where(*spec.is_signal)
    if limit is not None:
        rows = rows.limit(limit)
    counted = select(func.count()).select_from(rows.subquery())
    return session.scalar(counted, bind_arguments={"mapper": spec.mapper}) or 0


def count_unloadable_keys(connection: Connection, spec: SignalSpec, limit: int) -> int:
    """How many signals no burst takes, because Python cannot hold their keys; counting stops at the limit."""
    loadable = has_loadable_key(spec, connection.dialect)
    if not loadable:
        return 0
    rows = select(*spec.primary_key).where(not_(and_(*loadable)), *spec.is_signal).limit(limit)
    return connection.scalar(select(func.count()).select_from(rows.subquery())) or 0


def pending(spec: SignalSpec, dialect: Dialect, choice: Choice, statement: Select[Any]) -> Select[Any]:
    """Restrict a statement about a model to the chosen signals whose keys can be loaded."""
    statement = statement.where(*spec.is_signal)
    if choice.only is not None:
        return statement.where(has_key(spec, dialect, choice.only))
    statement = statement.where(*has_loadable_key(spec, dialect))
    if choice.start is not None:
        statement = statement.where(is_from(spec, choice.start))
    for part in parts(dialect, choice.exclude):
        statement = statement.where(has_other_key(spec, dialect, part))
    return leaving_out(spec, choice.leave_out, statement)
