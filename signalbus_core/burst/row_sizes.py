"""Queries the size of rows before they are read: batch size is also limited by bytes.

One statement locks the rows and reads their ids and sizes; the same transaction then loads only those that fit. That
takes one more statement, so it is done only for tables that have, or may have, large rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    Numeric,
    Text,
    Uuid,
    case,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import TypeDecorator

from ..model.contract import SignalSpec
from ..schema.quoting import quoted
from ..sql.rows import row_id
from ..sql.selection import Choice, locking

#: Values of these types are always small.
_NARROW = (Boolean, Date, DateTime, Integer, Numeric, Uuid)

#: Values stored in at most so many bytes are not measured further: PostgreSQL moves larger ones out of the row (TOAST).
_STORED_INLINE = 2000


@dataclass(frozen=True)
class Fitting:
    """The rows of a burst, locked but not yet loaded.

    :param ids: of the rows that fit, lowest keys first.
    :param is_cut: further rows did not fit.
    :param has_large: the table has, or recently had, large values in its TOAST table.
    """

    ids: tuple[str, ...]
    is_cut: bool
    has_large: bool


def lock_fitting(connection: Connection, spec: SignalSpec, limit: int, choice: Choice, most_bytes: int) -> Fitting:
    """Lock up to ``limit`` chosen signals on PostgreSQL, and return those that fit into so many bytes; at least one."""
    sized = select(row_id(connection.dialect), _row_bytes(spec).label("signalbus_bytes")).select_from(spec.model)
    rows = connection.execute(locking(spec, connection.dialect, choice, limit, sized)).all()
    ids = _fitting([(found, int(row_bytes)) for found, row_bytes in rows], most_bytes)
    has_large = bool(connection.scalar(_HAS_LARGE, {"name": quoted(spec.table)}))
    return Fitting(ids, len(ids) < len(rows), has_large)


def _fitting(sized: list[tuple[str, int]], most_bytes: int) -> tuple[str, ...]:
    total = 0
    for number, (_, row_bytes) in enumerate(sized):
        total += row_bytes
        if number and total > most_bytes:
            return tuple(found for found, _ in sized[:number])
    return tuple(found for found, _ in sized)


def _row_bytes(spec: SignalSpec) -> ColumnElement[int]:
    """About how many bytes a row has when it is read, without decompressing values where possible."""
    wide = [column for column in spec.mapper.columns if isinstance(column, Column) and _is_wide(column)]
    total: ColumnElement[int] = literal_column("0")
    for column in wide:
        total = total + func.coalesce(_bytes_of(column), 0)
    return total


def _is_wide(column: Column[Any]) -> bool:
    return not isinstance(_plain(column), _NARROW)


def _bytes_of(column: Column[Any]) -> ColumnElement[int]:
    stored = func.pg_column_size(column)
    if isinstance(_plain(column), LargeBinary):
        return func.octet_length(column)
    # Measured as text, because the driver reads all other types as text.
    return case((stored <= literal(_STORED_INLINE), stored), else_=func.octet_length(sql_cast(column, Text)))


def _plain(column: Column[Any]) -> Any:
    return column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type


# A partitioned table keeps its rows in its partitions.
_HAS_LARGE = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_class c
        WHERE (c.oid = to_regclass(:name) OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(:name))))
          AND c.reltoastrelid <> 0 AND pg_relation_size(c.reltoastrelid) > 0
    )
    """
)
