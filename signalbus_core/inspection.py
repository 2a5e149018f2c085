"""The SQL that looks at tables and transactions, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, literal, select, text
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.engine import Connection, Engine

from .contract import SignalSpec
from .statements import READ_COMMITTED, BurstLimits, Key, has_read_committed, pending, set_limits


@contextmanager
def reading(engine: Engine, limits: BurstLimits) -> Iterator[Connection]:
    """A connection in a short transaction with time limits, for looking at the tables; it is rolled back."""
    options = {"isolation_level": READ_COMMITTED} if has_read_committed(engine.dialect) else {}
    with engine.connect() as connection:
        connection = connection.execution_options(**options)
        set_limits(connection, limits)
        yield connection


def find_pending(
    connection: Connection, specs: Sequence[SignalSpec], exclude: Mapping[str, Sequence[Key]]
) -> list[SignalSpec]:
    """Tell by one statement which of the models have something to send.

    :param specs: models of one database.
    :param exclude: for names of models, primary keys that do not count.
    """
    exists: list[Any] = [
        pending(spec, connection.dialect, exclude.get(spec.name, ()), select(literal(1)).select_from(spec.model))
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


def has_written(connection: Connection) -> bool:
    """Whether the transaction of this connection has changed anything so far, as far as the database can tell."""
    if connection.dialect.name == "postgresql":
        # An id is assigned with the first change (or row lock), and not to a transaction that only reads.
        return bool(connection.scalar(text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")))
    if connection.dialect.name == "sqlite":
        return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))
    return False


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
