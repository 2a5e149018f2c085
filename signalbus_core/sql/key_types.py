"""The types of key columns in PostgreSQL: their values as text and back, and as arrays of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    CHAR,
    BigInteger,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    Time,
    TypeDecorator,
    func,
    type_coerce,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import CITEXT, INTERVAL
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import TypeEngine, UserDefinedType

#: Resolves column types to their PostgreSQL implementation.
_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


def value_from_text(column: ColumnElement[Any], text: ColumnElement[str]) -> ColumnElement[Any]:
    """A value of the column that :func:`value_as_text` wrote, in its type."""
    kind = plain_type(column.type)
    if isinstance(kind, CHAR) and kind.length:
        # The text of a padded column is without its blanks.
        text = func.rpad(text, func.greatest(func.char_length(text), kind.length))
    return type_coerce(sql_cast(text, wide_type(kind)), column.type)


def array_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of a parameter that holds the parts of many keys."""
    plain = plain_type(kind)
    if plain is not kind or isinstance(kind, Enum):
        # A type with its own conversion of values.
        return ARRAY(kind)
    return _Integers() if isinstance(kind, Integer) else ARRAY(wide_type(kind))


def value_as_text(column: ColumnElement[Any]) -> ColumnElement[str]:
    """The column as text, independent of the session's settings for time zones, dates and bytes."""
    kind = plain_type(column.type)
    if isinstance(kind, DateTime):
        moment = func.timezone("UTC", column) if kind.timezone else column
        return func.to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.US' + ('"Z"' if kind.timezone else ""))
    if isinstance(kind, Date):
        return func.to_char(column, "YYYY-MM-DD")
    if isinstance(kind, LargeBinary):
        return func.concat("\\x", func.encode(column, "hex"))
    return sql_cast(column, Text)


def wide_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type without its length. The column may be wider than in the model, and a cast would truncate keys."""
    kind = plain_type(kind)
    if isinstance(kind, CHAR):
        return _PaddedText()
    if isinstance(kind, Enum):
        return kind if kind.native_enum else Text()
    if isinstance(kind, String) and not isinstance(kind, CITEXT):
        return Text()
    if isinstance(kind, Integer):
        return BigInteger()
    if isinstance(kind, Numeric) and not isinstance(kind, Float):
        return Numeric() if kind.asdecimal else Numeric(asdecimal=False)
    if isinstance(kind, DateTime):
        return DateTime(timezone=kind.timezone)
    if isinstance(kind, Time):
        return Time(timezone=kind.timezone)
    return INTERVAL() if isinstance(kind, INTERVAL) else kind


def plain_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The PostgreSQL type of a column; for a ``TypeDecorator``, that of its implementation."""
    kind = kind._variant_mapping.get(_POSTGRESQL.name, kind)
    return plain_type(kind.type_engine(_POSTGRESQL)) if isinstance(kind, TypeDecorator) else kind


class _PaddedText(UserDefinedType[str]):
    """PostgreSQL's ``bpchar``, a ``char`` of any length; ``char`` alone has length one."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "bpchar"


class _Integers(UserDefinedType[Sequence[int]]):
    """An array of integers as one text parameter. The driver would format each number of a list, in twice the time."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "bigint[]"

    def bind_processor(self, dialect: Dialect) -> Any:
        return lambda numbers: "{" + ",".join([str(n) if type(n) is int else str(int(n)) for n in numbers]) + "}"
