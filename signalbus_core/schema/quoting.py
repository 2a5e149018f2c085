"""Tables by their names, and quoted names for texts that no driver processes: parameter values, and migrations.

With psycopg2's parameter style, SQLAlchemy doubles each percent sign in a name. The driver undoes this in the
statements that it runs, but nothing undoes it in a value or in a migration. So names here have single percent signs.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import MetaData, Table
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.dialects import postgresql

#: PostgreSQL with colons as parameter markers, so that percent signs are not doubled.
PLAIN = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def quoted(table: Table) -> str:
    """The table's quoted name with its schema, as in SQL and for PostgreSQL's ``to_regclass``."""
    return str(PLAIN.identifier_preparer.format_table(table))


def table_of(target: type[Any] | Table | str) -> Table:
    """The table of a model, or that with a name (``"orders"``, ``"sales.orders"``)."""
    if isinstance(target, Table):
        return target
    if isinstance(target, str):
        schema, _, name = target.rpartition(".")
        return Table(name, MetaData(), schema=schema or None)
    return cast(Table, cast(Any, sqlalchemy_inspect(target)).local_table)
