"""Identifies rows by PostgreSQL's system columns, independent of their keys and of how Python converts these.

The id of a row version is its ``tableoid`` (perhaps of a partition), its ``ctid`` and its ``xmin``. A delete by this id
deletes that version or nothing: never another row whose key looks the same, and never a new signal that has the key of
a deleted one.

https://www.postgresql.org/docs/current/ddl-system-columns.html
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import Boolean, Table, Text, bindparam, column, literal_column, null, select, text
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import ColumnElement, Select

from ..errors import Proved
from ..model.contract import SignalSpec
from ..schema.quoting import quoted
from .keys import Key, has_key, parts
from .transaction import LOOK_UP_CTIDS, execute_with

logger = logging.getLogger("signalbus")

RowId = str | None


class Row(NamedTuple):
    """A row that a burst has locked.

    :param ids: of its version; of several versions if it is not certain which was committed. Empty on other databases
      than PostgreSQL.
    """

    key: Key
    ids: tuple[str, ...]

    @property
    def version(self) -> str | None:
        """The transaction that wrote it."""
        return self.ids[-1].rpartition(")")[2] if self.ids else None

    @property
    def proved(self) -> Proved:
        return Proved(self.key, self.version, self.ids[-1] if self.ids else None)


def row_id(dialect: Dialect, table: Table | None = None) -> ColumnElement[Any]:
    """The id of a row as a column, ``16384(0,1)742``; NULL where there is none.

    :param table: which table is meant, in statements that join several.
    """
    of = "" if table is None else f"{quoted(table)}."
    return literal_column(f"concat({of}tableoid, {of}ctid, {of}xmin)", Text) if dialect.name == "postgresql" else null()


def has_id(ids: Iterable[str], table: Table | None = None, *, negated: bool = False) -> ColumnElement[bool]:
    """The condition that a row is one of these. They are looked up by their places.

    :param table: which table is meant, in statements that read from several.
    :param negated: that it is none of them.
    """
    of = "" if table is None else f"{quoted(table)}.".replace(":", "\\:")
    listed = list(ids)
    places = ",".join(f'"{_place(one)}"' for one in listed)
    whole = ",".join(f'"{one}"' for one in listed)
    condition = text(
        f"{'NOT ' if negated else ''}({of}ctid = ANY (CAST(:signalbus_places AS tid[]))"
        f" AND concat({of}tableoid, {of}ctid, {of}xmin) = ANY (CAST(:signalbus_rows AS text[])))"
    ).bindparams(
        bindparam("signalbus_places", f"{{{places}}}", Text, unique=True),
        bindparam("signalbus_rows", f"{{{whole}}}", Text, unique=True),
    )
    return cast("ColumnElement[bool]", condition)


def written_here(table: Table) -> ColumnElement[bool]:
    """The condition that a row was written by the current transaction, perhaps under a savepoint.

    Savepoints have transaction ids of their own; but a row that is visible, and whose transaction is in progress, is of
    this transaction. A later one may have committed, and is no longer in progress.
    """
    own, xmin = "pg_current_xact_id()", f"{quoted(table)}.xmin"
    later = f"CAST(CAST({own} AS text) AS bigint) + age(CAST({own} AS xid)) - age({xmin})"
    return literal_column(
        f"CASE WHEN age({xmin}) <= age(CAST({own} AS xid))"
        f" THEN pg_xact_status(CAST(CAST({later} AS text) AS xid8)) = 'in progress' ELSE false END",
        Boolean,
    )


def find_ids(
    connection: Connection,
    spec: SignalSpec,
    ids: Sequence[str],
    conditions: Sequence[ColumnElement[bool]] = (),
    *,
    locks: bool = False,
) -> list[Row]:
    """The rows that still have one of these ids, and meet all of these conditions.

    :param locks: lock them, too.
    """
    statement = _rows(spec, connection.dialect).where(has_id(ids), *conditions)
    found = execute_with(connection, LOOK_UP_CTIDS, statement.with_for_update() if locks else statement)
    return [_row(one) for one in found]


def find_keys(
    connection: Connection, spec: SignalSpec, keys: Sequence[Key], conditions: Sequence[ColumnElement[bool]] = ()
) -> list[Row]:
    """The rows that have these keys now, and meet all of these conditions."""
    found: list[Row] = []
    for part in parts(connection.dialect, keys):
        statement = _rows(spec, connection.dialect).where(has_key(spec, connection.dialect, part), *conditions)
        found += [_row(one) for one in connection.execute(statement)]
    return found


def find_written(
    connection: Connection, spec: SignalSpec, rows: Sequence[Row], conditions: Sequence[ColumnElement[bool]] = ()
) -> dict[str, Row]:
    """Those of the rows that the current transaction has written anew, as they are now, by their earlier ids.

    They are followed from their earlier versions, by the function with which PostgreSQL's ODBC driver does that, and
    so whatever their keys are now, and however Python reads these. None are found where the server has no such
    function.

    :param rows: with the ids that they had before; the transaction has locked them.
    :param conditions: that they meet now.
    """
    ids = all_ids(rows)
    if not ids:
        return {}
    earlier = (
        text(
            "SELECT signalbus_id, signalbus_of, currtid2(CAST(CAST(signalbus_of AS regclass) AS text), signalbus_place)"
            " AS signalbus_now FROM unnest(CAST(:signalbus_ids AS text[]), CAST(:signalbus_relations AS oid[]),"
            " CAST(:signalbus_places AS tid[])) AS g(signalbus_id, signalbus_of, signalbus_place)"
        )
        .bindparams(
            bindparam("signalbus_ids", "{" + ",".join(f'"{one}"' for one in ids) + "}", Text),
            bindparam("signalbus_relations", "{" + ",".join(one[: one.index("(")] for one in ids) + "}", Text),
            bindparam("signalbus_places", "{" + ",".join(f'"{_place(one)}"' for one in ids) + "}", Text),
        )
        .columns(column("signalbus_id", Text))
        .subquery("signalbus_earlier")
    )
    of = quoted(spec.table)
    followed = literal_column(f"({of}.tableoid, {of}.ctid) = (signalbus_of, signalbus_now)", Boolean)
    statement = (
        select(earlier.c.signalbus_id, row_id(connection.dialect, spec.table), *spec.primary_key)
        .select_from(spec.table.join(earlier, followed))
        .where(written_here(spec.table), *conditions)
    )
    try:
        with connection.begin_nested():
            found = execute_with(connection, LOOK_UP_CTIDS, statement)
            return {one[0]: _row(one[1:]) for one in found}
    except SQLAlchemyError:
        logger.debug("%s: rows that were written anew cannot be found.", spec.name, exc_info=True)
        return {}


def _rows(spec: SignalSpec, dialect: Dialect) -> Select[Any]:
    return select(row_id(dialect), *spec.primary_key)


def _row(found: Sequence[Any]) -> Row:
    return Row(tuple(found[1:]), () if found[0] is None else (found[0],))


def _place(row: str) -> str:
    return row[row.index("(") : row.index(")") + 1]


def all_ids(rows: Iterable[Row]) -> list[str]:
    return [one for row in rows for one in row.ids]
