"""Names of tables as SQL has them, in the places where no driver takes them apart: values, and statements to be read.

Where parameters are marked by percent signs, as psycopg2 marks them, SQLAlchemy writes each percent sign of a name
twice. The driver makes one of it again in a statement that it runs, and nobody does in a value or in a migration.
"""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

#: PostgreSQL, with parameters marked by colons: a percent sign is a letter like any other.
PLAIN = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def quoted(table: Table) -> str:
    """The table's name, with its schema, as PostgreSQL's ``to_regclass`` takes it and as SQL shows it."""
    return str(PLAIN.identifier_preparer.format_table(table))
