"""Identifies rows by PostgreSQL's system columns, independent of their keys and of how Python converts these.

The id of a row version is its ``tableoid`` (perhaps of a partition), its ``ctid`` and its ``xmin``. A delete by this id
deletes that version or nothing: never another row whose key looks the same, and never a new signal that has the key of
a deleted one.

https://www.postgresql.org/docs/current/ddl-system-columns.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import Table, Text, bindparam, literal_column, null, select, text
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ColumnElement

from ..errors import Proved
from ..model.contract import SignalSpec
from ..schema.quoting import quoted
from .keys import Key, has_key, parts

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


def row_id(dialect: Dialect) -> ColumnElement[Any]:
    """The id of a row as a column, ``16384(0,1)742``; NULL where there is none."""
    return literal_column("concat(tableoid, ctid, xmin)", Text) if dialect.name == "postgresql" else null()


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


#: The condition that the row was written by the current transaction, which must have an id, or by a later one.
WRITTEN_SINCE = cast("ColumnElement[bool]", text("age(xmin) <= age(CAST(pg_current_xact_id() AS xid))"))


def find(
    connection: Connection, spec: SignalSpec, conditions: Sequence[ColumnElement[bool]], *, locks: bool = False
) -> list[Row]:
    """The rows with all of these conditions.

    :param locks: lock them, too.
    """
    statement = select(row_id(connection.dialect), *spec.primary_key).where(*conditions)
    if locks:
        statement = statement.with_for_update()
    return [Row(tuple(key), () if found is None else (found,)) for found, *key in connection.execute(statement)]


def find_keys(
    connection: Connection, spec: SignalSpec, keys: Sequence[Key], conditions: Sequence[ColumnElement[bool]] = ()
) -> list[Row]:
    """The rows that have these keys now, and meet all of these conditions."""
    found: list[Row] = []
    for part in parts(connection.dialect, keys):
        found += find(connection, spec, [has_key(spec, connection.dialect, part), *conditions])
    return found


def find_moved(connection: Connection, spec: SignalSpec, rows: Sequence[Row]) -> list[Row]:
    """The rows that the current transaction has given another key, with their present keys and versions.

    They are followed from their earlier versions, by the function with which PostgreSQL's ODBC driver does that.

    :raises sqlalchemy.exc.SQLAlchemyError: the server has no such function.
    """
    ids = all_ids(rows)
    present = text(
        "(tableoid, ctid) IN (SELECT CAST(oid AS oid), currtid2(CAST(CAST(oid AS regclass) AS text), place) FROM"
        " unnest(CAST(:signalbus_tables AS bigint[]), CAST(:signalbus_earlier AS tid[])) AS g(oid, place))"
    ).bindparams(
        bindparam("signalbus_tables", "{" + ",".join(one[: one.index("(")] for one in ids) + "}", Text),
        bindparam("signalbus_earlier", "{" + ",".join(f'"{_place(one)}"' for one in ids) + "}", Text),
    )
    keys = {row.key for row in rows}
    found = find(connection, spec, [cast("ColumnElement[bool]", present), WRITTEN_SINCE])
    return [row for row in found if row.key not in keys]


def _place(row: str) -> str:
    return row[row.index("(") : row.index(")") + 1]


def all_ids(rows: Iterable[Row]) -> list[str]:
    return [one for row in rows for one in row.ids]
