"""Primary keys of signals: in Python a tuple, in SQL a condition, in the table of parked signals a text.

The text of a key is always made by the database, so that it is the same whoever asks, and can be cast back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    CHAR,
    BigInteger,
    BindParameter,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    TypeDecorator,
    all_,
    any_,
    bindparam,
    func,
    literal,
    literal_column,
    tuple_,
    type_coerce,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import TypeEngine, UserDefinedType

from .contract import SignalSpec

Key = tuple[Any, ...]

#: No integer key is lower.
FIRST_KEY = -(2**63)

#: Keys in one statement on databases that limit the number of parameters.
_KEYS_PER_STATEMENT = 500


def has_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    """The condition that a row of the model has one of these keys."""
    if _fits_array(spec, dialect):
        column, array = _column_and_array(spec, keys)
        return column == any_(array)
    return tuple_(*spec.primary_key).in_(keys)


def numbers_of(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> str | None:
    """The keys as one text for :func:`has_number`, where each is a number; None where one is not.

    The driver would write each number of a list by itself.
    """
    if not _fits_array(spec, dialect) or not has_integer_key(spec):
        return None
    if spec.primary_key[0].type.bind_processor(dialect) is not None or not all(type(key[0]) is int for key in keys):
        # The application's own type, or values that are more than they seem.
        return None
    return "{" + ",".join([str(key[0]) for key in keys]) + "}"


def has_number(spec: SignalSpec, numbers: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition that a row of the model has one of these keys, as :func:`numbers_of` writes them."""
    [column] = spec.primary_key
    return column == any_(cast(Any, sql_cast(numbers, ARRAY(_wide(column.type)))))


def has_other_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    """The condition that a row of the model has none of these keys."""
    # Not the negation of the above: SQLAlchemy may turn that into "differs from any".
    if _fits_array(spec, dialect):
        column, array = _column_and_array(spec, keys)
        return column != all_(array)
    return tuple_(*spec.primary_key).not_in(keys)


def has_integer_key(spec: SignalSpec) -> bool:
    """Whether the key of the model is a single integer, so that a scan in its order can begin anywhere."""
    return len(spec.primary_key) == 1 and isinstance(spec.primary_key[0].type, Integer)


def has_exact_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> bool:
    """Whether these keys are certain to name their own rows and no others, as integers do.

    A type may read several keys of the table as one, or as a key that is none of them: a number as a float, a text
    without its blanks.
    """
    if not has_integer_key(spec):
        return False
    kind = spec.primary_key[0].type
    is_plain = kind.bind_processor(dialect) is None and kind.result_processor(dialect, None) is None
    return is_plain and all(type(key[0]) is int for key in keys)


def is_from(spec: SignalSpec, start: int | BindParameter[int]) -> ColumnElement[bool]:
    """The condition that the key of a row, a single integer, is not below ``start``."""
    [column] = spec.primary_key
    bound = literal(start, BigInteger()) if isinstance(start, int) else start
    # The cast, because PostgreSQL takes the lowest of all for a numeric, and would not look into the index for that.
    return column >= sql_cast(bound, BigInteger)


def has_loadable_key(spec: SignalSpec, dialect: Dialect) -> list[ColumnElement[bool]]:
    """The conditions that Python can hold the key of a row; none where it can hold all.

    One row whose key it cannot hold (a year after 9999, or before Christ, or infinity) must not hold up its table.
    """
    if dialect.name != "postgresql":
        return []
    kinds = [(column, _plain(column.type)) for column in spec.primary_key]
    times = [(column, _wide(kind)) for column, kind in kinds if isinstance(kind, (Date, DateTime))]
    # As texts, so that a bound is in the time zone of the session, in which the driver reads the key.
    return [
        condition
        for column, kind in times
        for condition in (
            column >= sql_cast(literal_column("'0001-01-01'"), kind),
            column < sql_cast(literal_column("'10000-01-01'"), kind),
        )
    ]


def parts(dialect: Dialect, keys: Sequence[Key]) -> list[Sequence[Key]]:
    """The keys, in as few pieces as the database takes in one statement."""
    size = len(keys) if dialect.name == "postgresql" else _KEYS_PER_STATEMENT
    return [keys[start : start + size] for start in range(0, len(keys), max(1, size))]


def text_of_key(spec: SignalSpec) -> ColumnElement[str]:
    """The key of a row as text: as it is for one column, a JSON array of texts for several."""
    columns = [_as_text(column) for column in spec.primary_key]
    if len(columns) == 1:
        return columns[0]
    return sql_cast(func.jsonb_build_array(*columns), Text)


def key_from_text(spec: SignalSpec, text: ColumnElement[str]) -> list[ColumnElement[Any]]:
    """The parts of a key that was written by :func:`text_of_key`, each in the type of its column."""
    columns = spec.primary_key
    if len(columns) == 1:
        return [type_coerce(sql_cast(text, _wide(columns[0].type)), columns[0].type)]
    array = cast(Any, sql_cast(text, JSONB))
    return [
        type_coerce(sql_cast(array[number].astext, _wide(column.type)), column.type)
        for number, column in enumerate(columns)
    ]


def _fits_array(spec: SignalSpec, dialect: Dialect) -> bool:
    return dialect.name == "postgresql" and len(spec.primary_key) == 1


def _column_and_array(spec: SignalSpec, keys: Sequence[Key]) -> tuple[Column[Any], ColumnElement[Any]]:
    """One parameter whatever the number of keys. The cast keeps the comparison in the family of the column's type."""
    [column] = spec.primary_key
    bound = ARRAY(column.type if isinstance(column.type, TypeDecorator) else _wide(column.type))
    return column, sql_cast(bindparam(None, [key[0] for key in keys], type_=bound), ARRAY(_wide(column.type)))


def _as_text(column: Column[Any]) -> ColumnElement[str]:
    """The column as text, whatever the session says about time zones, dates and bytes."""
    kind = _plain(column.type)
    if isinstance(kind, DateTime):
        moment = func.timezone("UTC", column) if kind.timezone else column
        return func.to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.US' + ('"Z"' if kind.timezone else ""))
    if isinstance(kind, Date):
        return func.to_char(column, "YYYY-MM-DD")
    if isinstance(kind, LargeBinary):
        return func.concat("\\x", func.encode(column, "hex"))
    return sql_cast(column, Text)


def _wide(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type without its length. The table may be wider than the model says; a cast would cut keys short."""
    kind = _plain(kind)
    if isinstance(kind, CHAR):
        return _PaddedText()
    if isinstance(kind, String) and not isinstance(kind, Enum):
        return Text()
    if isinstance(kind, Integer):
        return BigInteger()
    if isinstance(kind, Numeric) and not isinstance(kind, Float):
        return Numeric() if kind.asdecimal else Numeric(asdecimal=False)
    if isinstance(kind, DateTime):
        return DateTime(timezone=kind.timezone)
    return kind


def _plain(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    if not isinstance(kind, TypeDecorator):
        return kind
    inner: TypeEngine[Any] = kind.impl_instance
    return inner


class _PaddedText(UserDefinedType[str]):
    """PostgreSQL's ``char`` of any length; spelled ``char`` it would be of length one."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "bpchar"
