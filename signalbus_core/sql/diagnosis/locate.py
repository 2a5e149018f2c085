"""Queries about a single signal: find it, its age, the signals before it, and the session that has it locked.

They change nothing. They lock the row with SKIP LOCKED at most; the lock ends with the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Float, Text, and_, case, extract, func, literal, literal_column, null, select, text, true, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError
from sqlalchemy.sql import ColumnElement

from ...failures import raise_if_stop
from ...model.contract import SignalSpec
from ...schema.quoting import quoted
from ..keys import Key, has_key, is_read_exactly, key_from_text, text_of_key
from ..schedule.conditions import Part, finite, is_future, may_be_sent, moments_due
from ..selection import Choice, pending


@dataclass(frozen=True)
class FoundSignal:
    """A signal in its table.

    :param written_at: None when it is unknown.
    :param is_locked: a transaction, such as a burst, has locked its row. None when this login may not lock it.
    :param last_locker: the transaction that locked or changed the row last, which may have ended.
    :param is_signal: whether the row is a signal, by the condition of its model.
    :param due_at: when it will be due, as text; ``infinity`` when never. None when it is due.
    :param due_seconds: until then, by the clock of the database; None when never.
    """

    written_at: datetime | None
    is_locked: bool | None
    last_locker: str
    is_signal: bool = True
    due_at: str | None = None
    due_seconds: float | None = None


@dataclass(frozen=True)
class Holder:
    """A session that holds a lock. Its query is never shown.

    :param application_name: empty when it has none.
    :param state: such as ``idle in transaction``; None when this login may not see it.
    :param seconds: since its transaction began; None when this login may not see it.
    """

    pid: int
    application_name: str
    state: str | None
    seconds: float | None


def key_of_text(connection: Connection, spec: SignalSpec, given: str) -> tuple[Key, str] | None:
    """The key for a text, and the text as the database writes it; None when it is no key of the model."""
    columns = key_from_text(spec, sql_cast(literal(given), Text))
    try:
        with connection.begin_nested():
            key = tuple(connection.execute(select(*columns)).one())
    except DataError:
        return None
    except SQLAlchemyError:
        raise
    except BaseException as error:  # noqa: BLE001 - PostgreSQL takes it for a key, and the column's type cannot
        raise_if_stop(error)
        return None
    if any(part is None for part in key):
        return None
    found = select(text_of_key(spec)).select_from(spec.table).where(has_key(spec, connection.dialect, [key]))
    return key, connection.scalar(found) or given


def key_texts(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> dict[Key, str]:
    """The texts of these keys, by which a person names the signals: those that the retry store has.

    Of rows that are gone, and where the database is not PostgreSQL, Python writes them.
    """
    texts = {key: str(key[0]) for key in keys if is_read_exactly(spec, key)}
    rest = [key for key in keys if key not in texts]
    if rest and connection.dialect.name == "postgresql":
        found = select(text_of_key(spec), *spec.primary_key).where(has_key(spec, connection.dialect, rest))
        texts |= {tuple(row[1:]): row[0] for row in connection.execute(found)}
    return {key: texts.get(key) or _written_by_python(key) for key in keys}


def _written_by_python(key: Key) -> str:
    return str(key[0]) if len(key) == 1 else json.dumps([str(part) for part in key])


def find_signal(connection: Connection, spec: SignalSpec, key: Key) -> FoundSignal | None:
    """The committed signal with this key; None when it is not in its table.

    :raises sqlalchemy.exc.OperationalError: the table is locked for longer than the transaction's ``lock_timeout``.
    """
    here = has_key(spec, connection.dialect, [key])
    row = _when_and_by_whom(connection, spec, here)
    if row is None:
        return None
    is_locked: bool | None
    free = select(literal(1)).select_from(spec.table).where(here).with_for_update(skip_locked=True)
    try:
        with connection.begin_nested():
            is_locked = connection.scalar(free) is None
    except DBAPIError:
        # A read-only login, or a standby.
        is_locked = None
    return FoundSignal(row[0], is_locked, *row[1:])


def _when_and_by_whom(connection: Connection, spec: SignalSpec, here: ColumnElement[bool]) -> Any:
    moment: ColumnElement[Any] | None = written_at_column(connection, spec)
    locker: ColumnElement[Any] = literal_column("xmax::text")
    # A condition that is NULL is not met.
    is_signal: ColumnElement[bool] = and_(true(), *spec.is_signal).is_(True)
    others = (locker, is_signal, *_due(spec))
    finding = select(null() if moment is None else moment, *others).select_from(spec.table).where(here)
    try:
        return connection.execute(finding).one_or_none()
    except SQLAlchemyError:
        raise
    except BaseException as error:  # noqa: BLE001 - a time that Python does not know, or the column's type cannot take
        raise_if_stop(error)
        return connection.execute(finding.with_only_columns(null(), *others)).one_or_none()


def _due(spec: SignalSpec) -> list[ColumnElement[Any]]:
    """When a signal that is not due yet will be, as text and in seconds from now."""
    if spec.schedule is None:
        return []
    due = moments_due(spec, Part.ALL)
    moment = due[0] if len(due) == 1 else func.greatest(*due)
    never = moment == literal_column("'infinity'")
    text_of = func.to_char(func.timezone("UTC", moment), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    seconds = func.date_part("epoch", moment - func.clock_timestamp())
    later = is_future(spec)
    return [
        case((and_(later, never), "infinity"), (later, text_of)).label("due_at"),
        case((and_(later, moment != literal_column("'infinity'")), seconds)).label("due_seconds"),
    ]


def oldest_age_seconds(connection: Connection, spec: SignalSpec, most: int | None) -> float | None:
    """The age in seconds of a model's oldest signal; None when there is none, or its age is unknown.

    :param most: read only so many signals, those with the lowest keys; all when None.
    """
    moment = written_at_column(connection, spec)
    if moment is None:
        return None
    due = moments_due(spec, Part.ALL)
    moment = func.greatest(moment, *due) if due else moment
    first = select(finite(moment).label("moment")).select_from(spec.model).where(*spec.is_signal, *may_be_sent(spec))
    looked_at = (first if most is None else first.order_by(*spec.primary_key).limit(most)).subquery()
    age = func.clock_timestamp() - func.min(looked_at.c.moment)
    seconds = connection.scalar(select(sql_cast(extract("epoch", age), Float)))
    return None if seconds is None else max(0.0, seconds)


def written_at_column(connection: Connection, spec: SignalSpec) -> ColumnElement[Any] | None:
    """When a signal was written, as a column of a query on its model; None when that is unknown.

    https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-TRACK-COMMIT-TIMESTAMP
    """
    if spec.written_at_column is not None:
        return spec.written_at_column
    if connection.dialect.name != "postgresql":
        return None
    keeps_times = text("SELECT CAST(current_setting('track_commit_timestamp') AS bool)")
    return func.pg_xact_commit_timestamp(literal_column("xmin")) if connection.scalar(keeps_times) else None


def first_keys(connection: Connection, spec: SignalSpec, choice: Choice, most: int) -> list[Key]:
    """The lowest keys of the chosen signals as a poll sees them: locked or not, and not from the session's objects."""
    statement = pending(spec, connection.dialect, choice, select(*spec.primary_key).select_from(spec.model))
    return [tuple(row) for row in connection.execute(statement.order_by(*spec.primary_key).limit(most))]


def has_row_security(connection: Connection, spec: SignalSpec) -> bool:
    """Whether row-level security policies restrict the rows that a login may see and lock."""
    return bool(connection.scalar(_ROW_SECURITY, {"name": quoted(spec.table)}))


def count_before(connection: Connection, spec: SignalSpec, key: Key, choice: Choice, most: int) -> int:
    """How many of the chosen signals a relay takes before this one; counting stops at ``most``."""
    parts = [literal(part, column.type) for part, column in zip(key, spec.primary_key, strict=True)]
    lower = tuple_(*spec.primary_key) < tuple_(*parts)
    statement = pending(spec, connection.dialect, choice, select(literal(1)).select_from(spec.model))
    counted = statement.where(lower).limit(most).subquery()
    return connection.scalar(select(func.count()).select_from(counted)) or 0


def row_holder(connection: Connection, transaction: str) -> Holder | None:
    """Who runs a transaction, or a member of this multixact; None when all have ended."""
    holder = _holder(connection, _RUNS_TRANSACTION, transaction=transaction)
    if holder is not None:
        return holder
    # A burst that has rehearsed its delete in a savepoint is in a multixact together with that savepoint.
    try:
        with connection.begin_nested():
            return _holder(connection, _RUNS_MEMBER, transaction=transaction)
    except DBAPIError:
        return None


def table_holder(connection: Connection, spec: SignalSpec) -> Holder | None:
    """Who holds an exclusive lock on the model's table, as ALTER TABLE does, or waits for it; None when nobody."""
    return _holder(connection, _HOLDS_TABLE, name=quoted(spec.table))


def sequence_has_returned(connection: Connection, spec: SignalSpec, key: Key) -> bool | None:
    """Whether the sequence of the key's column has returned this key; None when there is none, or it is unknown."""
    [column, *others] = spec.primary_key
    if others or not isinstance(key[0], int):
        return None
    last = connection.scalar(_LAST_VALUE, {"name": quoted(spec.table), "column": column.name})
    return None if last is None else key[0] <= last


def count_sessions(connection: Connection, start: str) -> int:
    """How many other sessions of this database have an ``application_name`` with this prefix."""
    return connection.scalar(_SESSIONS, {"start": start}) or 0


def _holder(connection: Connection, statement: Any, **parameters: str) -> Holder | None:
    row = connection.execute(statement, parameters).first()
    return None if row is None else Holder(row.pid, row.application_name or "", row.state, row.seconds)


_HOLDER = (
    "SELECT l.pid, CAST(a.application_name AS text) AS application_name, a.state,"
    " CAST(extract(epoch FROM clock_timestamp() - a.xact_start) AS float8) AS seconds"
    " FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.pid IS NOT NULL AND l.pid <> pg_backend_pid() AND "
)
_RUNS_TRANSACTION = text(
    _HOLDER + "l.granted AND l.locktype = 'transactionid' AND CAST(l.transactionid AS text) = :transaction"
)
_RUNS_MEMBER = text(
    _HOLDER + "l.granted AND l.locktype = 'transactionid' AND CAST(l.transactionid AS text) IN"
    " (SELECT CAST(xid AS text) FROM pg_get_multixact_members(CAST(CAST(:transaction AS text) AS xid)))"
)
# A session that waits for the lock also blocks all others: they queue behind it.
_HOLDS_TABLE = text(
    _HOLDER + "l.locktype = 'relation' AND l.relation = to_regclass(:name) AND l.mode = 'AccessExclusiveLock'"
    " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
    " ORDER BY l.granted DESC"
)
# https://www.postgresql.org/docs/current/functions-info.html
_LAST_VALUE = text(
    "SELECT pg_sequence_last_value(to_regclass(found.name)) FROM"
    " (SELECT pg_get_serial_sequence(:name, :column) AS name) AS found"
    " WHERE found.name IS NOT NULL AND has_sequence_privilege(found.name, 'USAGE, SELECT')"
)
_ROW_SECURITY = text("SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = to_regclass(:name)")
_SESSIONS = text(
    "SELECT count(*) FROM pg_catalog.pg_stat_activity"
    " WHERE datname = current_database() AND starts_with(CAST(application_name AS text), :start)"
    " AND pid <> pg_backend_pid()"
)
