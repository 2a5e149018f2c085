"""All SQL of the library.

Each function builds or runs one statement and decides nothing. PostgreSQL is what they are written for; on other
databases (SQLite in tests) the parts that these lack are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ARRAY, Column, CursorResult, all_, any_, bindparam, func, literal, select, text, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy import delete as sql_delete
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.engine import Connection, Dialect, Engine
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
        execution_options={"isolation_level": READ_COMMITTED} if _has_read_committed(dialect) else None,
    )
    _set_limits(connection, limits)
    return connection


@contextmanager
def reading(engine: Engine, limits: BurstLimits) -> Iterator[Connection]:
    """A connection in a short transaction with time limits, for looking at the tables; it is rolled back."""
    options = {"isolation_level": READ_COMMITTED} if _has_read_committed(engine.dialect) else {}
    with engine.connect() as connection:
        connection = connection.execution_options(**options)
        _set_limits(connection, limits)
        yield connection


def _set_limits(connection: Connection, limits: BurstLimits) -> None:
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


def _has_read_committed(dialect: Dialect) -> bool:
    return dialect.name != "sqlite"


def lock_signals(session: Session, spec: SignalSpec, limit: int, exclude: Sequence[Key]) -> list[Any]:
    """Lock and load up to ``limit`` signals that nobody else has locked, lowest keys first.

    All columns are loaded, also deferred ones; relationships are left to be loaded when they are read, because an
    outer join cannot be locked.
    """
    statement = (
        _pending(spec, session.get_bind(spec.mapper).dialect, exclude, select(spec.model))
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


def _pending(spec: SignalSpec, dialect: Dialect, exclude: Sequence[Key], statement: Select[Any]) -> Select[Any]:
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


def table_problem(connection: Connection, spec: SignalSpec) -> str | None:
    """Why the model's table cannot serve as an outbox: it is missing, no table, or has no key. None when it can."""
    if connection.dialect.name == "postgresql":
        return _postgresql_table_problem(connection, spec)
    inspector = sqlalchemy_inspect(connection)
    table = spec.table
    if table.name in inspector.get_view_names(schema=table.schema):
        return _problem(spec, "is a view", "Point the model at the table itself.")
    if not inspector.has_table(table.name, schema=table.schema):
        return _problem(spec, "does not exist", _CREATE_IT)
    if not inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]:
        return _problem(spec, "has no primary key", _GIVE_IT_A_KEY)
    return None


_CREATE_IT = "Create it with a migration or db.create_all()."
_GIVE_IT_A_KEY = "Without one, a signal cannot be deleted alone. Add a primary key to the table."

#: A unique index, not partial, whose columns are all not null and all part of the model's key.
_TABLE_FACTS = text(
    """
    SELECT c.relkind::text,
           EXISTS (
               SELECT FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                 AND (SELECT bool_and(coalesce(a.attnotnull AND a.attname = ANY(:key_columns), false))
                      FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
                      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                      WHERE k.position <= i.indnkeyatts)
           )
    FROM pg_class c WHERE c.oid = to_regclass(:table_name)
    """
)
_RELATION_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence"}


def _postgresql_table_problem(connection: Connection, spec: SignalSpec) -> str | None:
    facts = connection.execute(
        _TABLE_FACTS,
        {
            "table_name": connection.dialect.identifier_preparer.format_table(spec.table),
            "key_columns": [column.name for column in spec.primary_key],
        },
    ).one_or_none()
    if facts is None:
        return _problem(spec, "does not exist", _CREATE_IT)
    kind, has_key = facts
    if kind not in ("r", "p"):
        return _problem(spec, f"is {_RELATION_KINDS.get(kind, 'no table')}", "Point the model at the table itself.")
    if not has_key:
        return _problem(spec, "has no primary key that matches the model's", _GIVE_IT_A_KEY)
    return None


def _problem(spec: SignalSpec, what: str, remedy: str) -> str:
    return f"The table {spec.table.fullname!r} of signal model {spec.name} {what}. {remedy}"


def has_written(connection: Connection) -> bool:
    """Whether the transaction of this connection has changed anything so far, as far as the database can tell."""
    if connection.dialect.name == "postgresql":
        # An id is assigned with the first change (or row lock), and not to a transaction that only reads.
        return bool(connection.scalar(text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")))
    if connection.dialect.name == "sqlite":
        return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))
    return False


def find_pending(
    connection: Connection, specs: Sequence[SignalSpec], exclude: Mapping[str, Sequence[Key]]
) -> list[SignalSpec]:
    """Tell by one statement which of the models have something to send.

    :param specs: models of one database.
    :param exclude: for names of models, primary keys that do not count.
    """
    exists: list[Any] = [
        _pending(spec, connection.dialect, exclude.get(spec.name, ()), select(literal(1)).select_from(spec.model))
        .exists()
        .label(f"model_{number}")
        for number, spec in enumerate(specs)
    ]
    found = connection.execute(select(*exists)).one()
    return [spec for spec, is_found in zip(specs, found, strict=True) if is_found]


@dataclass(frozen=True)
class Measurement:
    """How much a model has pending.

    :param backlog: the number of signals; counting stops at a limit.
    :param head: the lowest key, as text; None when there is none. It tells whether the oldest signal has changed.
    """

    backlog: int
    head: str | None


def measure(connection: Connection, specs: Sequence[SignalSpec], most: int) -> list[Measurement]:
    """Measure the models by one statement.

    :param specs: models of one database.
    :param most: stop counting at so many signals of a model.
    """
    columns: list[Any] = []
    for number, spec in enumerate(specs):
        keys = select(*spec.primary_key).select_from(spec.model)
        counted = keys.limit(most).subquery()
        head = keys.order_by(*spec.primary_key).limit(1).subquery()
        columns += [
            select(func.count()).select_from(counted).scalar_subquery().label(f"backlog_{number}"),
            select(func.concat_ws(",", *head.c)).scalar_subquery().label(f"head_{number}"),
        ]
    row = connection.execute(select(*columns)).one()
    return [Measurement(row[2 * number], row[2 * number + 1]) for number in range(len(specs))]
