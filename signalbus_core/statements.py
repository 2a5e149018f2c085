"""The SQL of bursts.

Each function builds or runs one statement and decides nothing. PostgreSQL is what they are written for; on other
databases (SQLite in tests) the parts that these lack are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    CursorResult,
    Integer,
    and_,
    bindparam,
    func,
    not_,
    select,
    text,
)
from sqlalchemy import delete as sql_delete
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.orm import Session, lazyload, undefer
from sqlalchemy.sql import ColumnElement, Select

from .contract import SignalSpec
from .first_statement import SAID_FIRST, can_say_first
from .in_order import FOLLOW_THE_INDEX, LOOK_UP_KEYS
from .keys import Key, given_keys, has_key, has_loadable_key, has_other_key, is_from, joins_given_keys, parts
from .parked import LeaveOut, leaving_out
from .prepared import prepared
from .rows import has_id, row_id

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


def lock_signals(
    session: Session, spec: SignalSpec, limit: int, choice: Choice, limits: str | None = None
) -> list[tuple[Any, str | None]]:
    """Lock and load up to ``limit`` of the chosen signals that nobody else has locked, lowest keys first.

    All columns are loaded, also deferred ones; relationships are left to be loaded when they are read, because an
    outer join cannot be locked.

    :param limits: time limits, said first.
    :returns: each signal, with the id of its row.
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
    return [(signal, row) for signal, row in session.execute(statement, values, execution_options=options)]


def follows_index(dialect: Dialect, choice: Choice) -> bool:
    """Whether a scan for these signals is to follow the index of the key. Chosen keys are looked up in any order."""
    return dialect.name == "postgresql" and choice.only is None


def _loading(spec: SignalSpec, dialect: Dialect, choice: Choice, *, has_start: bool) -> Select[Any]:
    """The statement of bursts that choose alike; limit and start are its parameters."""
    statement = _whole(spec, dialect)
    if has_start:
        statement = statement.where(is_from(spec, bindparam("signalbus_start", type_=BigInteger)))
    limit = bindparam("signalbus_limit", type_=Integer)
    return locking(spec, dialect, replace(choice, start=None), limit, statement)


def lock_rows(connection: Connection, spec: SignalSpec, limit: int, choice: Choice) -> list[Any]:
    """Lock the same signals, and read nothing of their rows but the ids.

    :returns: the ids, to be given to :func:`load_rows`; where rows have none, the keys.
    """
    if connection.dialect.name != "postgresql":
        statement = locking(spec, connection.dialect, choice, limit, select(*spec.primary_key).select_from(spec.model))
        return [tuple(row) for row in connection.execute(statement)]
    statement = locking(spec, connection.dialect, choice, limit, select(row_id(connection.dialect)))
    return list(connection.scalars(statement.select_from(spec.model)))


def load_rows(session: Session, spec: SignalSpec, taken: Sequence[Any]) -> list[tuple[Any, str | None]]:
    """Load signals that :func:`lock_rows` has locked, in the order of their keys, as :func:`lock_signals` does."""
    dialect = session.get_bind(spec.mapper).dialect
    statement = _whole(spec, dialect).where(_taken(spec, dialect, taken)).order_by(*spec.primary_key)
    found = session.execute(statement, execution_options={"populate_existing": True})
    return [(signal, row) for signal, row in found]


def keys_of_rows(connection: Connection, spec: SignalSpec, taken: Sequence[Any]) -> list[Key]:
    """The keys of signals that :func:`lock_rows` has locked."""
    statement = select(*spec.primary_key).where(_taken(spec, connection.dialect, taken))
    return [tuple(row) for row in connection.execute(statement)]


def _taken(spec: SignalSpec, dialect: Dialect, taken: Sequence[Any]) -> ColumnElement[bool]:
    return has_id(taken) if dialect.name == "postgresql" else has_key(spec, dialect, taken)


def _whole(spec: SignalSpec, dialect: Dialect) -> Select[Any]:
    return select(spec.model, row_id(dialect)).options(lazyload("*"), undefer("*"))


def locking(
    spec: SignalSpec, dialect: Dialect, choice: Choice, limit: int | ColumnElement[int], statement: Select[Any]
) -> Select[Any]:
    """A statement about a model as one that locks up to ``limit`` of the chosen signals, lowest keys first."""
    chosen = pending(spec, dialect, choice, statement)
    return chosen.order_by(*spec.primary_key).limit(limit).with_for_update(skip_locked=True)


def delete_signals(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> int:
    """Delete the signals with these keys; return how many rows were deleted."""
    if connection.dialect.name != "postgresql":
        pieces = parts(connection.dialect, keys)
        deletes = [sql_delete(spec.table).where(has_key(spec, connection.dialect, piece)) for piece in pieces]
        return sum(cast("CursorResult[Any]", connection.execute(delete)).rowcount for delete in deletes)
    statement = prepared(spec, "delete", lambda: sql_delete(spec.table).where(joins_given_keys(spec)))
    options = {}
    if can_say_first(connection.engine):
        options[SAID_FIRST] = "; ".join([*LOOK_UP_KEYS, ""])
    else:
        run_all(connection, LOOK_UP_KEYS)
    result = connection.execute(statement, {**given_keys(spec, keys)}, execution_options=options)
    return cast("CursorResult[Any]", result).rowcount


def count_pending(session: Session, spec: SignalSpec, limit: int | None) -> int:
    """How many signals are in the table; with a limit, counting stops there.

    Signals count as a relay counts them: whatever keeps them, and also those that filters of the session hide.
    """
    connection = session.connection(bind_arguments={"mapper": spec.mapper})
    counted = all_keys(spec).limit(limit).subquery()
    return connection.scalar(select(func.count()).select_from(counted)) or 0


def all_keys(spec: SignalSpec) -> Select[Any]:
    """The keys of all signals of a model. It is for connections: a session may have filters of its own."""
    return select(*spec.primary_key).select_from(spec.model).where(*spec.is_signal)


def count_unloadable_keys(connection: Connection, spec: SignalSpec, limit: int) -> int:
    """How many signals no burst takes, because Python cannot hold their keys; counting stops at the limit."""
    loadable = has_loadable_key(spec, connection.dialect)
    if not loadable:
        return 0
    rows = select(*spec.primary_key).select_from(spec.model).where(not_(and_(*loadable)), *spec.is_signal).limit(limit)
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
