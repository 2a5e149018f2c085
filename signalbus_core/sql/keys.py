"""Primary keys of signals: in Python a tuple, in SQL a condition, in the retry store a text.

The text of a key is always made by the database, so that it is the same for every client, and can be cast back.

On PostgreSQL keys are passed as one array for each column, and the statement joins the unnested rows. So its text and
its number of parameters do not depend on the number of keys, and planning time grows no faster than the keys. The
planning time of ``(a, b) IN ((1, 2), ...)`` grows with the square of the number of keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import isfinite
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Date,
    DateTime,
    Integer,
    Text,
    and_,
    bindparam,
    column,
    func,
    literal,
    literal_column,
    null,
    select,
    tuple_,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.selectable import TableValuedAlias

from ..model.contract import SignalSpec
from .key_types import array_type, plain_type, value_as_text, value_from_text, wide_type

Key = tuple[Any, ...]

#: Tells which signal is meant: its key or, where the model reads that as another than it is, the id of its row.
SignalRef = Key | str

#: The lowest possible integer key.
FIRST_KEY = -(2**63)

#: The number of keys in one statement on databases that limit the number of parameters.
_KEYS_PER_STATEMENT = 500


def has_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    """The condition that a row of the model has one of these keys."""
    if dialect.name != "postgresql":
        return tuple_(*spec.primary_key).in_(keys)
    return whole_key(spec).in_(select(*key_rows(spec, _values(spec, keys)).c))


def has_other_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    """The condition that a row of the model has none of these keys."""
    if dialect.name != "postgresql":
        return tuple_(*spec.primary_key).not_in(keys)
    return whole_key(spec).not_in(select(*key_rows(spec, _values(spec, keys)).c))


def joins_given_keys(spec: SignalSpec) -> ColumnElement[bool]:
    """The condition that joins a table with the keys that :func:`given_keys` passes as parameters.

    For cached statements on PostgreSQL. Rows are looked up in the order of the keys.
    """
    rows = key_rows(spec, [None] * len(spec.primary_key))
    return and_(*(part == given for part, given in zip(spec.primary_key, rows.c, strict=True)))


def given_keys(spec: SignalSpec, keys: Sequence[Key]) -> dict[str, list[Any]]:
    """The parameters of a statement with :func:`joins_given_keys`."""
    return {_parameter(number): values for number, values in enumerate(_values(spec, keys))}


def has_integer_key(spec: SignalSpec) -> bool:
    """Whether the key of the model is a single integer, so that an ordered scan can start at any key."""
    return len(spec.primary_key) == 1 and isinstance(spec.primary_key[0].type, Integer)


def is_read_exactly(spec: SignalSpec, key: Key) -> bool:
    """Whether this key is certain to be that of its row, as an integer is."""
    return has_integer_key(spec) and type(key[0]) is int


def has_exact_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> bool:
    """Whether these keys are certain to identify exactly their own rows, as integers do.

    A type may convert several keys of the table to one value, or to one that is not in the table: a number to a float,
    a text to one without its blanks.
    """
    if not has_integer_key(spec):
        return False
    kind = spec.primary_key[0].type
    is_plain = kind.bind_processor(dialect) is None and kind.result_processor(dialect, None) is None
    return is_plain and {type(key[0]) for key in keys} <= {int}


def is_from(spec: SignalSpec, start: int | ColumnElement[int]) -> ColumnElement[bool]:
    """The condition that the key of a row, a single integer, is not below ``start``."""
    [column] = spec.primary_key
    bound = literal(start, BigInteger()) if isinstance(start, int) else start
    # Without the cast, PostgreSQL reads the lowest bigint as numeric, and would not use the index.
    return column >= sql_cast(bound, BigInteger)


def has_loadable_key(spec: SignalSpec, dialect: Dialect) -> list[ColumnElement[bool]]:
    """The conditions that Python can represent the key of a row; none where it can represent all.

    One row with another key (a year after 9999, or BC, or infinity) must not block its table.
    """
    if dialect.name != "postgresql":
        return []
    kinds = [(column, plain_type(column.type)) for column in spec.primary_key]
    times = [(column, wide_type(kind)) for column, kind in kinds if isinstance(kind, (Date, DateTime))]
    # As texts, so that the bounds are in the time zone of the session, in which the driver reads the key.
    return [
        condition
        for column, kind in times
        for condition in (
            column >= sql_cast(literal_column("'0001-01-01'"), kind),
            column < sql_cast(literal_column("'10000-01-01'"), kind),
        )
    ]


def parts(dialect: Dialect, keys: Sequence[Key]) -> list[Sequence[Key]]:
    """The keys in parts that fit into one statement each."""
    size = len(keys) if dialect.name == "postgresql" else _KEYS_PER_STATEMENT
    return [keys[start : start + size] for start in range(0, len(keys), max(1, size))]


def text_of_key(spec: SignalSpec) -> ColumnElement[str]:
    """The key of a row as text: the value of one column, or a JSON array of texts for several."""
    return _joined([value_as_text(column) for column in spec.primary_key])


def usual_text(spec: SignalSpec, text: ColumnElement[str]) -> ColumnElement[str]:
    """The text of a key as :func:`text_of_key` has it, of one that a person wrote."""
    return _joined([value_as_text(part) for part in key_from_text(spec, text)])


def _joined(texts: Sequence[ColumnElement[str]]) -> ColumnElement[str]:
    return texts[0] if len(texts) == 1 else sql_cast(func.jsonb_build_array(*texts), Text)


def key_from_text(spec: SignalSpec, text: ColumnElement[str]) -> list[ColumnElement[Any]]:
    """The parts of a key that was written by :func:`text_of_key`, each in the type of its column, as rows have them."""
    columns = spec.primary_key
    if len(columns) == 1:
        return [value_from_text(columns[0], text)]
    array = cast(Any, sql_cast(text, JSONB))
    return [value_from_text(column, array[number].astext) for number, column in enumerate(columns)]


def whole_key(spec: SignalSpec) -> ColumnElement[Any]:
    """The key of a row: its column, or a tuple of several."""
    return spec.primary_key[0] if len(spec.primary_key) == 1 else tuple_(*spec.primary_key)


def _values(spec: SignalSpec, keys: Sequence[Key]) -> list[list[Any]]:
    """The keys by column, without those that contain NULL: no row has one, and ``NOT IN`` would then match no row.

    Without those either that the type of the model cannot take: the column may hold numbers that are no integers, where
    the model declares them. Rounding would give the key of another signal; such a row is known by its id.
    """
    whole = [isinstance(plain_type(part.type), Integer) for part in spec.primary_key]
    # Fast path: most keys are integers.
    are_integers = {type(part) for key in keys for part in key} <= {int}
    complete = (
        keys
        if are_integers
        else [
            key
            for key in keys
            if None not in key
            and all(not is_whole or _is_whole(part) for part, is_whole in zip(key, whole, strict=True))
        ]
    )
    return [[key[number] for key in complete] for number in range(len(spec.primary_key))]


def key_rows(spec: SignalSpec, values: Sequence[list[Any] | None] | None) -> TableValuedAlias:
    """The keys as rows.

    :param values: of each column; None where they are passed as parameters. None for no keys.
    """
    kinds = [wide_type(part.type) for part in spec.primary_key]
    columns = [column(f"part_{number}", kind) for number, kind in enumerate(kinds)]
    arrays = key_arrays(spec, values)
    return func.unnest(*arrays).table_valued(*columns, name="signalbus_keys").render_derived()


def key_arrays(spec: SignalSpec, values: Sequence[list[Any] | None] | None) -> list[ColumnElement[Any]]:
    """The keys as one array for each column; ``values`` as for :func:`key_rows`."""
    kinds = [wide_type(part.type) for part in spec.primary_key]
    given = (
        [null() for _ in kinds]
        if values is None
        else [
            bindparam(_parameter(number), one, type_=array_type(part.type), unique=one is not None, required=False)
            for number, (part, one) in enumerate(zip(spec.primary_key, values, strict=True))
        ]
    )
    # The cast makes PostgreSQL compare in the column's type.
    return [sql_cast(one, ARRAY(kind)) for one, kind in zip(given, kinds, strict=True)]


def _parameter(number: int) -> str:
    return f"signalbus_keys_{number}"


def _is_whole(part: Any) -> bool:
    """Whether a part of a key, perhaps of an application's own type, is none that an integer rounds, or cannot hold."""
    if type(part) is int or not isinstance(part, (Decimal, float)):
        return True
    return isfinite(part) and FIRST_KEY <= part < -FIRST_KEY and part == int(part)
