"""The table ``signalbus_inbox``: one row for each message that a consumer has processed."""

from __future__ import annotations

from sqlalchemy import MetaData, Table
from sqlalchemy.engine import Connection

from ..schema.own_tables import INBOX

#: The table as it is called where nobody gives it another name, in the first schema of the search path.
DEFAULT = INBOX.table(MetaData())


def table(metadata: MetaData) -> Table:
    """Add the table to ``metadata``, so that ``create_all()`` and Alembic's autogenerate know it; return it.

    It is in the schema of the metadata. ``metadata.info["signalbus_inbox"]`` gives it another name. If it has another
    schema, name or database than the default ones, pass it to :func:`receive`, :func:`once` and :func:`clean`.
    """
    return INBOX.table(metadata)


def table_sql(name: str = INBOX.name, schema: str | None = None) -> str:
    """The statements that create the table in PostgreSQL, for migrations written by hand. They can be run again."""
    return INBOX.sql(MetaData(schema=schema, info={INBOX.name: name}))


def privileges_problem(connection: Connection, table: Table = DEFAULT) -> str | None:
    """Why the table cannot be cleaned: it, or a privilege on it, is missing. None when it can. PostgreSQL only."""
    return INBOX.problem(connection, table, for_change=True)
