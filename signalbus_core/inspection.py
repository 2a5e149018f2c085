"""The SQL that looks at tables and transactions, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from sqlalchemy import func, literal, null, select, text
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ColumnElement, Select

from .contract import SignalSpec
from .keys import is_from
from .parked import LeaveOut, count_columns, is_due, leaving_out
from .paused import pause_column
from .quoting import quoted
from .statements import EVERYTHING, Choice, pending


@dataclass(frozen=True)
class Work:
    """What there is to do for a model.

    :param pending: there are signals to send.
    :param due: there are signals that were set aside and whose next try has come.
    :param paused: why the model is paused, empty when nobody said why; None when it is not paused.
    :param lowest: the lowest key of those to send, where the choice says from which key on.
    """

    spec: SignalSpec
    pending: bool
    due: bool
    paused: str | None = None
    lowest: int | None = None


@dataclass(frozen=True)
class Measurement:
    """How much a model has pending.

    :param backlog: the number of signals; counting stops at a limit.
    :param head: the lowest key of those that are not parked, as text; None when there is none. It tells whether the
      oldest signal has changed.
    :param age_seconds: for how long that one has been written, by the clock of the database; None when its model has
      no time of writing.
    :param waiting: how many signals are set aside until their next try.
    :param parked: how many signals are parked.
    """

    backlog: int
    head: str | None
    age_seconds: float | None = None
    waiting: int = 0
    parked: int = 0


def find_work(
    connection: Connection,
    specs: Sequence[SignalSpec],
    choices: Mapping[str, Choice],
    *,
    has_paused_table: bool = False,
) -> list[Work]:
    """Tell by one statement what there is to do for each of the models.

    :param specs: models of one database.
    :param choices: for names of models, which signals count.
    :param has_paused_table: whether the table of paused models is there to be read.
    """
    dialect = connection.dialect
    answers = _ask(connection, [_work_columns(spec, dialect, choices, has_paused_table) for spec in specs])
    return [
        _work(spec, choices.get(spec.name, EVERYTHING), answer) for spec, answer in zip(specs, answers, strict=True)
    ]


def measure(
    connection: Connection,
    specs: Sequence[SignalSpec],
    most: int | None,
    *,
    has_parked_table: bool = False,
    starts: Mapping[str, int | None] | None = None,
) -> list[Measurement]:
    """Measure the models by one statement.

    :param specs: models of one database.
    :param most: stop counting at so many signals of a model; never when None.
    :param has_parked_table: whether the table of signals that are set aside is there to be read.
    :param starts: for names of models with a single integer key, from which key on; None for all keys.
    """
    dialect, starts = connection.dialect, starts or {}
    columns = [_measuring_columns(spec, dialect, most, has_parked_table, starts.get(spec.name)) for spec in specs]
    answers = _ask(connection, columns)
    return [Measurement(*answer) for answer in answers]


def find_work_and_measure(
    connection: Connection,
    specs: Sequence[SignalSpec],
    choices: Mapping[str, Choice],
    most: int,
    *,
    has_parked_table: bool = False,
    has_paused_table: bool = False,
    starts: Mapping[str, int | None] | None = None,
) -> list[tuple[Work, Measurement]]:
    """Both of the above by one statement."""
    dialect, starts = connection.dialect, starts or {}
    columns = [
        _work_columns(spec, dialect, choices, has_paused_table)
        + _measuring_columns(spec, dialect, most, has_parked_table, starts.get(spec.name))
        for spec in specs
    ]
    answers = zip(specs, _ask(connection, columns), strict=True)
    return [
        (_work(spec, choices.get(spec.name, EVERYTHING), answer[:_WORK]), Measurement(*answer[_WORK:]))
        for spec, answer in answers
    ]


#: So many columns tell what there is to do.
_WORK = 3


def _work_columns(
    spec: SignalSpec, dialect: Dialect, choices: Mapping[str, Choice], has_paused_table: bool
) -> list[ColumnElement[Any]]:
    choice = choices.get(spec.name, EVERYTHING)
    return [
        _found(spec, dialect, choice),
        literal(False) if choice.leave_out is LeaveOut.NOTHING else is_due(spec),
        pause_column(spec) if has_paused_table else null(),
    ]


def _found(spec: SignalSpec, dialect: Dialect, choice: Choice) -> ColumnElement[Any]:
    if choice.start is None or choice.only is not None:
        return pending(spec, dialect, choice, select(literal(1)).select_from(spec.model)).exists()
    keys = select(*spec.primary_key).select_from(spec.model).order_by(*spec.primary_key).limit(1)
    return pending(spec, dialect, choice, keys).scalar_subquery()


def _work(spec: SignalSpec, choice: Choice, answer: Sequence[Any]) -> Work:
    found, is_due, paused = answer
    if choice.start is None or choice.only is not None:
        return Work(spec, bool(found), bool(is_due), paused)
    return Work(spec, found is not None, bool(is_due), paused, found)


def _measuring_columns(
    spec: SignalSpec, dialect: Dialect, most: int | None, has_parked_table: bool, start: int | None
) -> list[ColumnElement[Any]]:
    keys = select(*spec.primary_key).select_from(spec.model)
    if start is not None:
        # In order, so that PostgreSQL begins there as well, instead of reading what is dead before.
        keys = keys.where(is_from(spec, start)).order_by(*spec.primary_key)
    counted = keys.limit(most).subquery()
    # The lag is that of the lowest key: the least time of writing would be found by reading the whole table.
    first = keys.order_by(None).order_by(*spec.primary_key).limit(1)
    first = leaving_out(spec, LeaveOut.PARKED if has_parked_table else LeaveOut.NOTHING, first)
    head = first.subquery()
    return [
        select(func.count()).select_from(counted).scalar_subquery(),
        select(func.concat_ws(",", *head.c)).scalar_subquery(),
        _age_seconds(spec, dialect, first),
        *(count if has_parked_table else literal(0) for count in count_columns(spec)),
    ]


def _age_seconds(spec: SignalSpec, dialect: Dialect, first: Select[Any]) -> ColumnElement[Any]:
    if spec.written_at is None or dialect.name != "postgresql":
        return null()
    written_at = first.with_only_columns(spec.mapper.columns[spec.written_at]).scalar_subquery()
    # By the clock of the server alone: that of the relay may differ.
    return func.date_part("epoch", func.clock_timestamp() - written_at)


def _ask(connection: Connection, columns: Sequence[Sequence[ColumnElement[Any]]]) -> list[Sequence[Any]]:
    """Ask for the columns of all models by one statement; return each model's own."""
    flat = [column.label(f"c{number}") for number, column in enumerate(chain.from_iterable(columns))]
    values = iter(connection.execute(select(*flat)).one())
    return [list(islice(values, len(own))) for own in columns]


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
            "table_name": quoted(spec.table),
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
