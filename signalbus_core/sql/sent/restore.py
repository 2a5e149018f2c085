"""Restores signals that were sent, as instances of their model: each column from its text, by PostgreSQL itself.

The table may have changed since a row was kept. A column that it has got since has the value that rows of that time
have, NULL or a constant. Where the model allows no NULL, the row is none of its signals any more, and is said so: it
may have the value under the name that the column had then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import false, literal_column, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, lazyload, undefer, with_polymorphic
from sqlalchemy.sql import ColumnElement

from ...model.contract import SignalSpec
from ...schema.own_tables import SENT
from ...schema.quoting import PLAIN, quoted
from ..transaction import LOOK_UP_CTIDS, run_all
from .history import PLACE, SentSignal, at_places
from .move import columns_of

# The type with -1: without a length, which a cast would cut the value to. The text of a char(n) lacks the spaces at its
# end. The value is that of rows which are older than the column, as long as PostgreSQL keeps it.
# https://www.postgresql.org/docs/current/catalog-pg-attribute.html
_COLUMNS = text(
    """
    SELECT CAST(attname AS text), format_type(atttypid, -1),
           CASE WHEN atttypid = CAST('bpchar' AS regtype) AND atttypmod > 4 THEN atttypmod - 4 END,
           CASE WHEN atthasmissing THEN (CAST(CAST(attmissingval AS text) AS text[]))[1] END
    FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped
    """
)

_ROW = PLAIN.identifier_preparer.quote("row")


@dataclass(frozen=True)
class Restored:
    """A signal that was sent, as an instance of its model; it belongs to the session.

    :param lacking: columns that may not be NULL, and have no value in the row that was kept.
    """

    signal: Any
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class _TableColumn:
    kind: str
    width: int | None
    missing: str | None


def restore(session: Session, spec: SignalSpec, signals: Sequence[SentSignal]) -> dict[str, Restored]:
    """These signals of the history, by their places; those that are there no more are missing.

    :param signals: no two with the same key: SQLAlchemy has one instance for each.
    :raises Exception: what is kept of one of them cannot be read as its column.
    """
    connection = session.connection(bind_arguments={"mapper": spec.mapper})
    known = _columns_now(connection, spec)
    columns = [_restored(column, known.get(column.name)) for column in columns_of(spec)]
    kept = select(PLACE, _lacking(spec, known), *columns).select_from(SENT.of(spec)).where(at_places(signals))
    # SQLAlchemy reads the columns of subclasses only of a statement in which it finds their table.
    named = kept.subquery("signalbus_kept")
    rows = select(*named.c).select_from(named.outerjoin(spec.table, false())).subquery("signalbus_restored")
    model = with_polymorphic(spec.model, "*", selectable=rows, adapt_on_names=True)
    statement = select(model, rows.c.signalbus_place, rows.c.signalbus_lacking)
    statement = statement.options(lazyload("*"), undefer("*"))
    run_all(connection, LOOK_UP_CTIDS)
    found = session.execute(statement, bind_arguments={"mapper": spec.mapper}).all()
    # The application's own statements run with the usual settings.
    run_all(connection, ("SET LOCAL enable_seqscan TO DEFAULT", "SET LOCAL jit TO DEFAULT"))
    return {place: Restored(signal, tuple(lacking)) for signal, place, lacking in found}


def _columns_now(connection: Connection, spec: SignalSpec) -> dict[str, _TableColumn]:
    rows = connection.execute(_COLUMNS, {"name": quoted(spec.table)})
    return {name: _TableColumn(*facts) for name, *facts in rows}


def _restored(column: Any, now: _TableColumn | None) -> ColumnElement[Any]:
    return literal_column(_value(column.name, now), column.type).label(column.name)


def _value(name: str, now: _TableColumn | None) -> str:
    if now is None:
        return "NULL"
    value = f"{_ROW} ->> {_text_literal(name)}"
    if now.missing is not None:
        value = (
            f"CASE WHEN ({_ROW} -> {_text_literal(name)}) IS NULL THEN {_text_literal(now.missing)} ELSE {value} END"
        )
    if now.width is not None:
        value = f"rpad({value}, greatest({now.width}, length({value})))"
    return f"CAST({value} AS {now.kind})"


def _lacking(spec: SignalSpec, known: dict[str, _TableColumn]) -> ColumnElement[Any]:
    """The columns without a value that need one. A JSON null is a value: the row had it, whatever the model says."""
    needed = [one.name for one in columns_of(spec) if not one.nullable]
    without = [name for name in needed if (now := known.get(name)) is None or now.missing is None]
    tests = [f"CASE WHEN ({_ROW} -> {_text_literal(name)}) IS NULL THEN {_text_literal(name)} END" for name in without]
    array = f"array_remove(CAST(ARRAY[{', '.join(tests)}] AS text[]), NULL)"
    return literal_column(array).label("signalbus_lacking")


def _text_literal(value: str) -> str:
    escaped = value.replace("'", "''")
    # Whatever standard_conforming_strings is.
    return f"'{escaped}'" if "\\" not in value else "E'" + escaped.replace("\\", "\\\\") + "'"
