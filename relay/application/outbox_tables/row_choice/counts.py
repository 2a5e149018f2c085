"""The number of rows by value of a column, in words. Values are listed only when they are few and short."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Column, MetaData, Table, Text, case, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import NullType

from signalbus_core.lowlevel import error_text

from ..catalog import TableFacts
from ..field_types import MOMENTS
from .state_columns import Meaning, StateColumn

#: The largest number of rows that are counted. Larger: the refusal of a big table takes longer.
MOST_ROWS = 100_000

#: Values are listed when there are at most so many, and none is longer than that.
MOST_VALUES, LONGEST_VALUE = 6, 30


def counted(connection: Connection, facts: TableFacts, one: StateColumn) -> str:
    """The rows that a column concerns, in words; or why they could not be counted."""
    name = facts.name
    column: Column[object] = Column(one.column.name, NullType())
    table = Table(name.name, MetaData(), column, schema=name.schema)
    rows = select(_shown(column, one).label("value")).select_from(table).limit(MOST_ROWS).subquery()
    values = select(rows.c.value, func.count().label("number")).group_by(rows.c.value)
    grouped = values.order_by(func.count().desc(), rows.c.value).limit(MOST_VALUES + 1)
    try:
        found = [(value, number) for value, number in connection.execute(grouped)]
        if len(found) > MOST_VALUES or any(len(value or "") > LONGEST_VALUE for value, _ in found):
            both = select(func.count(rows.c.value), func.count())
            given, number = connection.execute(both).one()
            found = [("set", given), (None, number - given)]
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return f"not counted: {error_text(error)}"
    total = sum(number for _, number in found)
    words = ", ".join(_in_words(found)) or "no rows"
    return f"{words}; of the first {MOST_ROWS:,} rows" if total >= MOST_ROWS else words


def _shown(column: Column[object], one: StateColumn) -> ColumnElement[str]:
    """The part of a value that is shown."""
    if one.column.type_name not in MOMENTS:
        return sql_cast(column, Text)
    if one.meaning is Meaning.NOT_BEFORE:
        return case((column > func.now(), "in the future"), (column.is_not(None), "in the past"))
    return case((column.is_not(None), "set"))


def _in_words(found: list[tuple[str | None, int]]) -> Iterator[str]:
    for value, number in found:
        if number:
            text = "NULL" if value is None else value if value.isprintable() and value.strip() else repr(value)
            yield f"{text} {number:,}"
