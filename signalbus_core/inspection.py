"""The SQL that looks at tables and transactions, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, literal, select, text
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.engine import Connection

from .contract import SignalSpec
from .parked import LeaveOut, count_columns, is_due
from .statements import EVERYTHING, Choice, pending


@dataclass(frozen=True)
class Work:
    """What there is to do for a model.

    :param pending: there are signals to send.
    :param due: there are signals that were set aside and whose next try has come.
    """

    spec: SignalSpec
    pending: bool
    due: bool


def find_work(connection: Connection, specs: Sequence[SignalSpec], choices: Mapping[str, Choice]) -> list[Work]:
    """Tell by one statement what there is to do for each of the models.

    :param specs: models of one database.
    :param choices: for names of models, which signals count.
    """
    columns: list[Any] = []
    for number, spec in enumerate(specs):
        choice = choices.get(spec.name, EVERYTHING)
        found = pending(spec, connection.dialect, choice, select(literal(1)).select_from(spec.model)).exists()
        due = literal(False) if choice.leave_out is LeaveOut.NOTHING else is_due(spec)
        columns += [found.label(f"pending_{number}"), due.label(f"due_{number}")]
    row = connection.execute(select(*columns)).one()
    return [Work(spec, bool(row[2 * number]), bool(row[2 * number + 1])) for number, spec in enumerate(specs)]


@dataclass(frozen=True)
class Measurement:
    """How much a model has pending.

    :param backlog: the number of signals; counting stops at a limit.
    :param head: the lowest key, as text; None when there is none. It tells whether the oldest signal has changed.
    :param waiting: how many signals are set aside until their next try.
    :param parked: how many signals are parked.
    """

    backlog: int
    head: str | None
    waiting: int = 0
    parked: int = 0


def measure(
    connection: Connection, specs: Sequence[SignalSpec], most: int, *, has_parked_table: bool = False
) -> list[Measurement]:
    """Measure the models by one statement.

    :param specs: models of one database.
    :param most: stop counting at so many signals of a model.
    :param has_parked_table: whether the table of signals that are set aside is there to be read.
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
        for name, count in zip(("waiting", "parked"), count_columns(spec), strict=True):
            columns.append((count if has_parked_table else literal(0)).label(f"{name}_{number}"))
    row = connection.execute(select(*columns)).one()
    return [Measurement(*row[4 * number : 4 * number + 4]) for number in range(len(specs))]


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
