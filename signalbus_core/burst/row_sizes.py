"""Queries the size of rows before they are read: batch size is also limited by bytes.

One statement locks the rows and reads their ids and sizes; the same transaction then loads only those that fit. That
takes one more statement, so it is done only for tables that have, or may have, large rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from ..model.contract import SignalSpec
from ..schema.quoting import quoted
from ..sql.rows import row_bytes, row_id
from ..sql.selection import Choice, locking


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
    sized = select(row_id(connection.dialect), row_bytes(spec).label("signalbus_bytes")).select_from(spec.model)
    rows = connection.execute(locking(spec, connection.dialect, choice, limit, sized)).all()
    ids = _fitting([(found, int(size)) for found, size in rows], most_bytes)
    has_large = bool(connection.scalar(_HAS_LARGE, {"name": quoted(spec.table)}))
    return Fitting(ids, len(ids) < len(rows), has_large)


def _fitting(sized: list[tuple[str, int]], most_bytes: int) -> tuple[str, ...]:
    total = 0
    for number, (_, size) in enumerate(sized):
        total += size
        if number and total > most_bytes:
            return tuple(found for found, _ in sized[:number])
    return tuple(found for found, _ in sized)


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
