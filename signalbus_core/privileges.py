"""What this login may do with a table of Signalbus, asked of the database without touching the table."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Table, text
from sqlalchemy.engine import Connection

from .quoting import quoted


def table_privileges(connection: Connection, table: Table) -> frozenset[str] | None:
    """Which of SELECT, INSERT, UPDATE and DELETE this login has on the table; None when there is no table."""
    if connection.dialect.name != "postgresql":
        return None
    row = connection.execute(_PRIVILEGES, {"name": quoted(table)}).one_or_none()
    return None if row is None else frozenset(word for word, granted in row._mapping.items() if granted)


def privileges_problem(connection: Connection, table: Table, needed: Sequence[str]) -> str | None:
    """Why the table cannot be used: it is missing, or closed to this login. None when it can."""
    granted = table_privileges(connection, table)
    if granted is None:
        return "does not exist"
    missing = [word for word in needed if word not in granted]
    return f"is closed to this login, which lacks {', '.join(missing)}" if missing else None


_PRIVILEGES = text(
    "SELECT has_table_privilege(oid, 'SELECT') AS \"SELECT\", has_table_privilege(oid, 'INSERT') AS \"INSERT\","
    " has_table_privilege(oid, 'UPDATE') AS \"UPDATE\", has_table_privilege(oid, 'DELETE') AS \"DELETE\""
    " FROM (SELECT to_regclass(:name)::oid AS oid) AS found WHERE oid IS NOT NULL"
)
