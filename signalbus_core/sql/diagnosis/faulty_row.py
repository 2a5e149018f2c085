"""The row for whose sake the condition of a model, that of ``--where``, cannot be evaluated.

SQL has nothing that catches an error of an expression: a statement that meets such a row fails as a whole, and in which
order it meets rows is the planner's choice. So a burst cannot leave the row out, and a person is to know which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, func, literal, select, tuple_
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError

from ...model.contract import SignalSpec
from ..keys import Key, has_key
from .locate import key_texts

#: So many rows are tried at once, and in all. More: such a row is found behind more others, at a higher cost.
ROWS_AT_ONCE, MOST_ROWS = 1_000, 100_000


@dataclass(frozen=True)
class FaultyRow:
    """A row for which the condition fails.

    :param key_text: its key, as a person names it.
    """

    key: Key
    key_text: str
    error: DataError


def find_faulty_row(connection: Connection, spec: SignalSpec, suspect: Key | None = None) -> FaultyRow | None:
    """The first row for which the condition fails; None when none was found.

    :param suspect: the key of a row that is tried before all others.
    """
    if spec.condition is None:
        return None
    if suspect is not None and (error := _error(connection, spec, [suspect])) is not None:
        return _first_of(connection, spec, [suspect], error)
    after: Key | None = None
    for _ in range(MOST_ROWS // ROWS_AT_ONCE):
        keys = _next_keys(connection, spec, after)
        if (error := _error(connection, spec, keys)) is not None:
            return _first_of(connection, spec, keys, error)
        if len(keys) < ROWS_AT_ONCE:
            return None
        after = keys[-1]
    return None


def _next_keys(connection: Connection, spec: SignalSpec, after: Key | None) -> list[Key]:
    statement = select(*spec.primary_key).select_from(spec.table).order_by(*spec.primary_key).limit(ROWS_AT_ONCE)
    if after is not None:
        parts = [literal(part, column.type) for part, column in zip(after, spec.primary_key, strict=True)]
        statement = statement.where(tuple_(*spec.primary_key) > tuple_(*parts))
    return [tuple(row) for row in connection.execute(statement)]


def _error(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> DataError | None:
    """The error of the condition for these rows; None when there is none."""
    # The condition is evaluated for the rows that WHERE has chosen, and for no other.
    counted = func.count(case((and_(*spec.is_signal), 1)))
    statement = select(counted).select_from(spec.table).where(has_key(spec, connection.dialect, keys))
    try:
        with connection.begin_nested():
            connection.execute(statement)
    except DataError as error:
        return error
    return None


def _first_of(connection: Connection, spec: SignalSpec, keys: Sequence[Key], error: DataError) -> FaultyRow:
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        in_half = _error(connection, spec, half)
        keys, error = (half, in_half) if in_half is not None else (keys[len(half) :], error)
    # The error of several rows may have been that of another one.
    error = _error(connection, spec, keys) or error
    return FaultyRow(keys[0], key_texts(connection, spec, keys)[keys[0]], error)
