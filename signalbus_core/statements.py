"""The SQL of bursts.

Each function builds or runs one statement and decides nothing. PostgreSQL is what they are written for; on other
databases (SQLite in tests) the parts that these lack are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ARRAY, Column, CursorResult, all_, any_, bindparam, func, select, text, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy import delete as sql_delete
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import Session, lazyload, undefer
from sqlalchemy.sql import ColumnElement, Select

from .contract import SignalSpec

Key = tuple[Any, ...]

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


def begin(session: Session, spec: SignalSpec, limits: BurstLimits) -> Connection:
    """Begin a burst's transaction at READ COMMITTED, on the database of the model.

    Under REPEATABLE READ a row that another relay deleted meanwhile would be a serialization failure, not a skip.
    """
    dialect = session.get_bind(spec.mapper).dialect
    connection = session.connection(
        bind_arguments={"mapper": spec.mapper},
        execution_options={"isolation_level": READ_COMMITTED} if has_read_committed(dialect) else None,
    )
    set_limits(connection, limits)
    return connection


def set_limits(connection: Connection, limits: BurstLimits) -> None:
    """Set the time limits of the present transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            _SET_LIMITS,
            {
                "statement": _milliseconds(limits.statement_timeout_seconds),
                "lock": _milliseconds(limits.lock_timeout_seconds),
                "idle": _milliseconds(limits.idle_timeout_seconds),
            },
        )


_SET_LIMITS = text(
    "SELECT set_config('statement_timeout', :statement, true), set_config('lock_timeout', :lock, true),"
    " set_config('idle_in_transaction_session_timeout', :idle, true)"
)


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def has_read_committed(dialect: Dialect) -> bool:
    """Whether the database has the isolation level of bursts."""
    return dialect.name != "sqlite"


def lock_signals(session: Session, spec: SignalSpec, limit: int, exclude: Sequence[Key]) -> list[Any]:
    """Lock and load up to ``limit`` signals that nobody else has locked, lowest keys first.

    All columns are loaded, also deferred ones; relationships are left to be loaded when they are read, because an
    outer join cannot be locked.
    """
    statement = (
        pending(spec, session.get_bind(spec.mapper).dialect, exclude, select(spec.model))
        .order_by(*spec.primary_key)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .options(lazyload("*"), undefer("*"))
        .execution_options(populate_existing=True)
    )
    return list(session.scalars(statement))


def delete_signals(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> int:
    """Delete the signals with these keys.

    :returns: how many rows were deleted.
    """
    deleted = 0
    for part in _parts(connection.dialect, keys):
        statement = sql_delete(spec.table).where(_has_key(spec, connection.dialect, part))
        deleted += cast("CursorResult[Any]", connection.execute(statement)).rowcount
    return deleted


def count_existing(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> int:
    """How many signals with these keys are in the table."""
    return sum(
        connection.scalar(select(func.count()).select_from(spec.table).where(_has_key(spec, connection.dialect, part)))
        or 0
        for part in _parts(connection.dialect, keys)
    )


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
    rows = select(*spec.primary_key).select_from(spec.model)
    if limit is not None:
        rows = rows.limit(limit)
    counted = select(func.count()).select_from(rows.subquery())
    return session.scalar(counted, bind_arguments={"mapper": spec.mapper}) or 0


def pending(spec: SignalSpec, dialect: Dialect, exclude: Sequence[Key], statement: Select[Any]) -> Select[Any]:
    """Restrict a statement about a model to the signals whose keys are not excluded."""
    for part in _parts(dialect, exclude):
        statement = statement.where(_has_other_key(spec, dialect, part))
    return statement


def _has_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    if _fits_array(spec, dialect):
        column, array = _column_and_array(spec, keys)
        return column == any_(array)
    return tuple_(*spec.primary_key).in_(keys)


def _has_other_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    # Not the negation of the above: SQLAlchemy may turn that into "differs from any".
    if _fits_array(spec, dialect):
        column, array = _column_and_array(spec, keys)
        return column != all_(array)
    return tuple_(*spec.primary_key).not_in(keys)


def _fits_array(spec: SignalSpec, dialect: Dialect) -> bool:
    return dialect.name == "postgresql" and len(spec.primary_key) == 1


def _column_and_array(spec: SignalSpec, keys: Sequence[Key]) -> tuple[Column[Any], ColumnElement[Any]]:
    """One parameter whatever the number of keys. The cast keeps the comparison in the column's own type."""
    [column] = spec.primary_key
    array = ARRAY(column.type)
    return column, sql_cast(bindparam(None, [key[0] for key in keys], type_=array), array)


#: Keys in one statement on databases that limit the number of parameters.
_KEYS_PER_STATEMENT = 500


def _parts(dialect: Dialect, keys: Sequence[Key]) -> list[Sequence[Key]]:
    size = len(keys) if dialect.name == "postgresql" else _KEYS_PER_STATEMENT
    return [keys[start : start + size] for start in range(0, len(keys), max(1, size))]
