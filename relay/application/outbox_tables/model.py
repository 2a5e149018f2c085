"""Makes the signal model of a planned table. Invariant: no value in a row can fail the statement that reads it; a
column that may be of any type is read as text, in PostgreSQL's format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import column_property
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import TypeEngine, UserDefinedType

from signalbus_core.lowlevel import SIGNAL_ID, Schedule
from signalbus_core.rabbitmq import HEADERS_TEXT, RowSignal

from .catalog import ColumnFacts
from .field_types import INTEGERS, STRINGS, TEXTUAL, TIMES, types_of
from .mapping import Plan, header_of
from .row_choice.done import assignments

#: The prefix of a column's attribute, so that it cannot clash with other attributes.
PREFIX = "column_"

#: The prefix of the attribute of a column that is also read as text.
TEXT_PREFIX = "text_"


class AsText(UserDefinedType[str]):
    """A column of any type, read as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "text"

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return sql_cast(column, Text)


class TableSignal(RowSignal):
    """A row of an outbox table without an application's model."""


def make_model(db: Any, plan: Plan) -> type[TableSignal]:
    """Make the signal model of a table without problems. The class has the name of the table."""
    name = plan.facts.name
    table = Table(
        name.name,
        cast(MetaData, db.metadata),
        *(
            _column(column, column in plan.not_before or column.name in plan.rules.order_by)
            for column in plan.facts.columns
        ),
        schema=name.schema,
    )
    fields, texts = _attributes(plan, table)
    used = {column.name for column in plan.columns.values()}
    members: dict[str, Any] = {
        "__module__": __name__,
        "__table__": table,
        "__mapper_args__": {
            "column_prefix": PREFIX,
            "exclude_properties": [one for one in table.c if not one.primary_key and one.name not in used],
        },
        "signalbus_exchange": plan.rules.exchange,
        "signalbus_routing_key": plan.rules.routing_key,
        "signalbus_done": () if plan.rules.marks is None else assignments(plan.rules.marks),
        "signalbus_order_by": plan.rules.order_by or None,
        "signalbus_keep_days": plan.rules.keep_days,
        "signalbus_condition": plan.rules.where,
        "signalbus_schedule": _schedule(plan, table),
        "signalbus_fields": {HEADERS_TEXT if field == "headers" else field: to for field, to in fields.items()},
        "signalbus_created_at": _written_at(plan, fields),
        **texts,
    }
    return type(str(name), (TableSignal, db.Model), members)


def _attributes(plan: Plan, table: Table) -> tuple[dict[str, str], dict[str, Any]]:
    """The attribute of each field; and the attributes to add, for columns that are read as text."""
    fields: dict[str, str] = {}
    texts: dict[str, Any] = {}
    for field, column in plan.columns.items():
        if field == SIGNAL_ID:
            texts[SIGNAL_ID] = column_property(table.c[column.name])
            continue
        is_text = types_of(field) >= TEXTUAL and column.type_name in TEXTUAL - STRINGS
        if is_text and not (header_of(field) is not None and column.type_name in INTEGERS):
            fields[field] = TEXT_PREFIX + column.name
            texts[fields[field]] = column_property(sql_cast(table.c[column.name], Text))
        else:
            fields[field] = PREFIX + column.name
    return fields, texts


def _written_at(plan: Plan, fields: Mapping[str, str]) -> str | None:
    """The attribute with the time at which a row was written; None without one that has a time zone."""
    column = plan.columns.get("created_at")
    return fields["created_at"] if column is not None and column.type_name == "timestamptz" else None


def _schedule(plan: Plan, table: Table) -> Schedule | None:
    """When its rows are due."""
    times = plan.not_before
    index = tuple(column.name for column in (*times, *plan.facts.key))
    is_indexed = len(times) == 1 and times[0].type_name in TIMES and index in plan.facts.indexes
    return Schedule(tuple([table.c[column.name] for column in times]), is_indexed) if times else None


def _column(column: ColumnFacts, is_compared: bool) -> Column[Any]:
    is_key = column.key_position is not None
    kind = _type(column.type_name, is_key or is_compared)
    is_nullable = not (is_key or column.is_required)
    return Column(column.name, kind, primary_key=is_key, autoincrement=False, nullable=is_nullable)


def _type(name: str, is_compared: bool) -> TypeEngine[Any]:
    """The type as which a column is read and, in a key for example, compared."""
    if name in INTEGERS:
        return BigInteger()
    if name in TIMES:
        return DateTime(timezone=name == "timestamptz")
    kinds: dict[str, TypeEngine[Any]] = {
        "bytea": LargeBinary(),
        "bool": Boolean(),
        "text": Text(),
        "uuid": Uuid(as_uuid=False),
        "varchar": Text(),
    }
    if is_compared:
        kinds |= {"bpchar": CHAR(), "date": Date(), "numeric": Numeric()}
    return kinds.get(name, AsText())
