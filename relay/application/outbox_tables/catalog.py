"""Queries of PostgreSQL's catalog: the tables, the types of their columns, and this login's privileges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, MetaData, Table, Text, bindparam, text
from sqlalchemy.engine import Connection

from signalbus_core.lowlevel import quoted

from .names import TableName

#: Ordinary tables, and partitioned ones.
TABLE_KINDS = ("r", "p")

KIND_NAMES = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "c": "a type",
}


@dataclass(frozen=True)
class ColumnFacts:
    """A column.

    :param type_name: of the type; for a domain its base type, for all enumerations ``enum``.
    :param shown_type: as in SQL.
    :param key_position: its position in the primary key; None when it is no part of it.
    :param is_required: it is NOT NULL.
    :param default: as in SQL; None when it has none.
    """

    name: str
    type_name: str
    shown_type: str
    key_position: int | None
    is_required: bool = False
    default: str | None = None


@dataclass(frozen=True)
class TableFacts:
    """A table.

    :param oid: None when there is no such table.
    :param kind: a letter of ``pg_class.relkind``.
    :param lacking: the privileges that a relay needs and this login lacks.
    :param indexes: the columns of each index of the whole table that has them in ascending order.
    """

    name: TableName
    oid: int | None
    kind: str = ""
    columns: tuple[ColumnFacts, ...] = ()
    lacking: tuple[str, ...] = ()
    like_named: tuple[str, ...] = ()
    indexes: frozenset[tuple[str, ...]] = frozenset()

    @property
    def key(self) -> list[ColumnFacts]:
        """The columns of the primary key, in key order."""
        found = [column for column in self.columns if column.key_position is not None]
        return sorted(found, key=lambda column: column.key_position or 0)


def find_tables(connection: Connection, names: Sequence[TableName]) -> list[TableFacts]:
    """Query tables; one result for each name, in order."""
    as_sql = [quoted(Table(name.name, MetaData(), schema=name.schema)) for name in names]
    rows = connection.execute(_TABLES, {"quoted": as_sql, "names": [name.name for name in names]}).all()
    oids = [row.oid for row in rows if row.oid is not None]
    columns: dict[int, list[ColumnFacts]] = {}
    for oid, *facts in connection.execute(_COLUMNS, {"oids": oids}):
        columns.setdefault(oid, []).append(ColumnFacts(*facts))
    indexes: dict[int, set[tuple[str, ...]]] = {}
    for oid, indexed in connection.execute(_INDEXES, {"oids": oids}):
        indexes.setdefault(oid, set()).add(tuple(indexed))
    return [_facts(name, row, columns, indexes) for name, row in zip(names, rows, strict=True)]


def _facts(
    name: TableName, row: Any, columns: dict[int, list[ColumnFacts]], indexes: dict[int, set[tuple[str, ...]]]
) -> TableFacts:
    if row.oid is None:
        return TableFacts(name, None, like_named=tuple(row.like_named or ()))
    privileges = (("SELECT", row.may_select), ("UPDATE", row.may_update), ("DELETE", row.may_delete))
    lacking = tuple(word for word, granted in privileges if not granted)
    own = frozenset(indexes.get(row.oid, ()))
    return TableFacts(name, row.oid, row.kind, tuple(columns.get(row.oid, ())), lacking, indexes=own)


# FOR UPDATE needs the UPDATE privilege on at least one column.
_TABLES = text(
    """
    SELECT CAST(c.oid AS bigint) AS oid, CAST(c.relkind AS text) AS kind,
           has_table_privilege(c.oid, 'SELECT') AS may_select,
           has_any_column_privilege(c.oid, 'UPDATE') AS may_update,
           has_table_privilege(c.oid, 'DELETE') AS may_delete,
           ARRAY(
               SELECT concat(CAST(o.relnamespace AS regnamespace), '.', CAST(o.relname AS text))
               FROM pg_class o
               WHERE c.oid IS NULL AND lower(o.relname) = lower(g.name) AND o.relkind IN ('r', 'p', 'v')
               ORDER BY 1 LIMIT 3
           ) AS like_named
    FROM unnest(:quoted, :names) WITH ORDINALITY AS g(quoted, name, position)
    LEFT JOIN pg_class c ON c.oid = to_regclass(g.quoted)
    ORDER BY g.position
    """
).bindparams(bindparam("quoted", type_=ARRAY(Text)), bindparam("names", type_=ARRAY(Text)))

# The base type of a domain may be a domain.
_COLUMNS = text(
    """
    SELECT CAST(a.attrelid AS bigint), CAST(a.attname AS text),
           CASE WHEN base.typtype = 'e' THEN 'enum' ELSE CAST(base.typname AS text) END,
           format_type(a.atttypid, a.atttypmod),
           (
               SELECT k.position FROM unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k(number, position)
               WHERE k.number = a.attnum AND k.position <= i.indnkeyatts
           ),
           a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a
    CROSS JOIN LATERAL (
        WITH RECURSIVE made_of AS (
            SELECT typname, typtype, typbasetype FROM pg_type WHERE oid = a.atttypid
            UNION ALL
            SELECT t.typname, t.typtype, t.typbasetype FROM made_of m JOIN pg_type t ON t.oid = m.typbasetype
        )
        SELECT typname, typtype FROM made_of WHERE typbasetype = 0
    ) AS base
    LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE CAST(a.attrelid AS bigint) = ANY(:oids) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
    """
)

# Not a partial one, nor one of expressions. An option of 0: ascending, NULL last.
_INDEXES = text(
    """
    SELECT CAST(i.indrelid AS bigint), ARRAY(
        SELECT CAST(a.attname AS text) FROM unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k(number, position)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE k.position <= i.indnkeyatts ORDER BY k.position
    )
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
    WHERE CAST(i.indrelid AS bigint) = ANY(:oids) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
        AND m.amname = 'btree' AND 0 = ALL(CAST(i.indoption AS int2[]))
    """
)
