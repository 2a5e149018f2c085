"""Restores signals that were sent, as instances of their model: each column from its text, by PostgreSQL itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import literal_column, select, text
from sqlalchemy.orm import Session, aliased, lazyload, undefer
from sqlalchemy.sql import ColumnElement

from ...model.contract import SignalSpec
from ...schema.own_tables import SENT
from ...schema.quoting import PLAIN, quoted
from .history import PLACE, at_places
from .move import columns_of

# -1: without a length, which a cast would cut the value to.
_TYPES = text(
    """
    SELECT CAST(attname AS text), format_type(atttypid, -1) FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped
    """
)


def restore(session: Session, spec: SignalSpec, places: Sequence[str]) -> dict[str, Any]:
    """The signals at these places of the history, by place; those that are there no more are missing.

    They belong to the session. A column that the table has got since is NULL; one that it has lost is left out.

    :param places: of signals no two of which have the same key: SQLAlchemy has one instance for each.
    :raises Exception: what is kept of one of them cannot be read as its column.
    """
    connection = session.connection(bind_arguments={"mapper": spec.mapper})
    types = {row[0]: row[1] for row in connection.execute(_TYPES, {"name": quoted(spec.table)})}
    columns = [_restored(column.name, types.get(column.name), column) for column in columns_of(spec)]
    rows = select(PLACE, *columns).select_from(SENT.of(spec)).where(at_places(places)).subquery("signalbus_restored")
    statement = select(aliased(spec.model, rows, adapt_on_names=True), rows.c.signalbus_place)
    statement = statement.options(lazyload("*"), undefer("*"))
    found = session.execute(statement, bind_arguments={"mapper": spec.mapper})
    return {place: signal for signal, place in found}


def _restored(name: str, kind: str | None, column: Any) -> ColumnElement[Any]:
    value = (
        "NULL"
        if kind is None
        else f"CAST({PLAIN.identifier_preparer.quote('row')} ->> {_text_literal(name)} AS {kind})"
    )
    return literal_column(value, column.type).label(name)


def _text_literal(value: str) -> str:
    escaped = value.replace("'", "''")
    # Whatever standard_conforming_strings is.
    return f"'{escaped}'" if "\\" not in value else "E'" + escaped.replace("\\", "\\\\") + "'"
