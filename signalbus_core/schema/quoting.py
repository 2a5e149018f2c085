"""Quoted names of tables for texts that no driver processes: parameter values and statements in migrations.

With psycopg2's parameter style, SQLAlchemy doubles each percent sign in a name. The driver undoes this in the
statements that it runs, but nothing undoes it in a value or in a migration. So names here have single percent signs.
"""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

#: PostgreSQL with colons as parameter markers, so that percent signs are not doubled.
PLAIN = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def quoted(table: Table) -> str:
    """The table's quoted name with its schema, as in SQL and for PostgreSQL's ``to_regclass``."""
    return str(PLAIN.identifier_preparer.format_table(table))
