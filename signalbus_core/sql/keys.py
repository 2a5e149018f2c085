"""Primary keys of signals: in Python a tuple, in SQL a condition, in the table of parked signals a text.

The text of a key is always made by the database, so that it is the same whoever asks, and can be cast back.

On PostgreSQL any number of keys, of whatever types, is one array for each column, and a statement joins the rows that
these make together: its text and its number of parameters are always the same, and planning it takes no longer for
many keys than reading them. ``(a, b) IN ((1, 2), ...)`` is planned in a time that grows with the square of the keys.
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
    Time,
    TypeDecorator,
    and_,
    bindparam,
    column,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import CITEXT, INTERVAL, JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine, UserDefinedType

from ..model.contract import SignalSpec

Key = tuple[Any, ...]

#: No integer key is lower.
FIRST_KEY = -(2**63)

#: Keys in one statement on databases that limit the number of parameters.
_KEYS_PER_STATEMENT = 500

#: What the types of an application's columns are on PostgreSQL.
_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


def has_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    """The condition that a row of the model has one of these keys."""
    if dialect.name != "postgresql":
        return tuple_(*spec.primary_key).in_(keys)
    return _key(spec).in_(select(*_rows(spec, _values(spec, keys)).c))


def has_other_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    """The condition that a row of the model has none of these keys."""
    if dialect.name != "postgresql":
        return tuple_(*spec.primary_key).not_in(keys)
    return _key(spec).not_in(select(*_rows(spec, _values(spec, keys)).c))


def joins_given_keys(spec: SignalSpec) -> ColumnElement[bool]:
    """The condition that joins a table with the keys that are given with the statement by :func:`given_keys`.

    For statements on PostgreSQL that are made once. Rows are looked up in the order of the keys.
    """
    rows = _rows(spec, [None] * len(spec.primary_key))
    return and_(*(part == given for part, given in zip(spec.primary_key, rows.c, strict=True)))


def given_keys(spec: SignalSpec, keys: Sequence[Key]) -> dict[str, list[Any]]:
    """The parameters of a statement with :func:`joins_given_keys`."""
    return {_parameter(number): values for number, values in enumerate(_values(spec, keys))}


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
    """The parts of a key that was written by :func:`text_of_key`, each in the type of its column, as rows have them."""
    columns = spec.primary_key
    if len(columns) == 1:
        return [_from_text(columns[0], text)]
    array = cast(Any, sql_cast(text, JSONB))
    return [_from_text(column, array[number].astext) for number, column in enumerate(columns)]


def _from_text(column: Column[Any], text: ColumnElement[str]) -> ColumnElement[Any]:
    kind = _plain(column.type)
    if isinstance(kind, CHAR) and kind.length:
        # The text of a padded column is without its blanks.
        text = func.rpad(text, func.greatest(func.char_length(text), kind.length))
    return type_coerce(sql_cast(text, _wide(kind)), column.type)


def _key(spec: SignalSpec) -> ColumnElement[Any]:
    return spec.primary_key[0] if len(spec.primary_key) == 1 else tuple_(*spec.primary_key)


def _values(spec: SignalSpec, keys: Sequence[Key]) -> list[list[Any]]:
    """The keys by column. No row has a key with NULL in it, and ``NOT IN`` would be true of no other row either."""
    complete = [key for key in keys if None not in key]
    return [[key[number] for key in complete] for number in range(len(spec.primary_key))]


def _rows(spec: SignalSpec, values: Sequence[list[Any] | None]) -> TableValuedAlias:
    """The keys as rows.

    :param values: of each column; None where they are given with the statement.
    """
    kinds = [_wide(part.type) for part in spec.primary_key]
    arrays = [
        # The cast keeps the comparison in the family of the column's type.
        sql_cast(
            bindparam(_parameter(number), given, type_=_array(part.type), unique=given is not None, required=False),
            ARRAY(kind),
        )
        for number, (part, kind, given) in enumerate(zip(spec.primary_key, kinds, values, strict=True))
    ]
    columns = [column(f"part_{number}", kind) for number, kind in enumerate(kinds)]
    return func.unnest(*arrays).table_valued(*columns, name="signalbus_keys").render_derived()


def _parameter(number: int) -> str:
    return f"signalbus_keys_{number}"


def _array(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of a parameter that holds the parts of many keys."""
    plain = _plain(kind)
    if plain is not kind or isinstance(kind, Enum):
        # What it makes of a value is its own business.
        return ARRAY(kind)
    return _Integers() if isinstance(kind, Integer) else ARRAY(_wide(kind))


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


def _plain(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """What the type of a column is on PostgreSQL: of a type of the application's own, the one that it is made of."""
    kind = kind._variant_mapping.get(_POSTGRESQL.name, kind)
    return _plain(kind.type_engine(_POSTGRESQL)) if isinstance(kind, TypeDecorator) else kind


class _PaddedText(UserDefinedType[str]):
    """PostgreSQL's ``char`` of any length; spelled ``char`` it would be of length one."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "bpchar"


class _Integers(UserDefinedType[Sequence[int]]):
    """An array of integers as one text. The driver would write each number of a list by itself, for twice the time."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "bigint[]"

    def bind_processor(self, dialect: Dialect) -> Any:
        return lambda numbers: "{" + ",".join([str(n) if type(n) is int else _whole(n) for n in numbers]) + "}"


def _whole(number: Any) -> str:
    """A number of another type, such as a Decimal where the column of the table is not an integer."""
    whole = int(number)
    if whole != number:
        # Rounded, it would be the key of another signal.
        raise ValueError(f"{number!r} is a key of a column that the model declares as an integer")
    return str(whole)
