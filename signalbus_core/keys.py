"""Primary keys of signals: in Python a tuple, in SQL a condition, in the table of parked signals a text.

The text of a key is always made by the database, so that it is the same whoever asks, and can be cast back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import ARRAY, Column, Text, all_, any_, bindparam, func, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ColumnElement

from .contract import SignalSpec

Key = tuple[Any, ...]

#: Keys in one statement on databases that limit the number of parameters.
_KEYS_PER_STATEMENT = 500


def has_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    """The condition that a row of the model has one of these keys."""
    if _fits_array(spec, dialect):
        column, array = _column_and_array(spec, keys)
        return column == any_(array)
    return tuple_(*spec.primary_key).in_(keys)


def has_other_key(spec: SignalSpec, dialect: Dialect, keys: Sequence[Key]) -> ColumnElement[bool]:
    """The condition that a row of the model has none of these keys."""
    # Not the negation of the above: SQLAlchemy may turn that into "differs from any".
    if _fits_array(spec, dialect):
        column, array = _column_and_array(spec, keys)
        return column != all_(array)
    return tuple_(*spec.primary_key).not_in(keys)


def parts(dialect: Dialect, keys: Sequence[Key]) -> list[Sequence[Key]]:
    """The keys, in as few pieces as the database takes in one statement."""
    size = len(keys) if dialect.name == "postgresql" else _KEYS_PER_STATEMENT
    return [keys[start : start + size] for start in range(0, len(keys), max(1, size))]


def text_of_key(spec: SignalSpec) -> ColumnElement[str]:
    """The key of a row as text: as it is for one column, a JSON array of texts for several."""
    columns = [sql_cast(column, Text) for column in spec.primary_key]
    if len(columns) == 1:
        return columns[0]
    return sql_cast(func.jsonb_build_array(*columns), Text)


def key_from_text(spec: SignalSpec, text: ColumnElement[str]) -> list[ColumnElement[Any]]:
    """The parts of a key that was written by :func:`text_of_key`, each in the type of its column."""
    columns = spec.primary_key
    if len(columns) == 1:
        return [sql_cast(text, columns[0].type)]
    array = cast(Any, sql_cast(text, JSONB))
    return [sql_cast(array[number].astext, column.type) for number, column in enumerate(columns)]


def _fits_array(spec: SignalSpec, dialect: Dialect) -> bool:
    return dialect.name == "postgresql" and len(spec.primary_key) == 1


def _column_and_array(spec: SignalSpec, keys: Sequence[Key]) -> tuple[Column[Any], ColumnElement[Any]]:
    """One parameter whatever the number of keys. The cast keeps the comparison in the column's own type."""
    [column] = spec.primary_key
    array = ARRAY(column.type)
    return column, sql_cast(bindparam(None, [key[0] for key in keys], type_=array), array)
