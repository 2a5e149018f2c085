"""The tables of a drill's signals, one for each kind, and the statements that create and remove them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from signalbus_core import order_sql, scheduled_sql

#: What the names of the tables end with, behind that of the drill.
KEYED, SCHEDULED = "_keyed", "_scheduled"

#: The column that is the key of keyed signals.
ACCOUNT = "account"

#: The column of scheduled signals that says when they are due.
SEND_AFTER = "signalbus_send_after"


def signal_tables(name: str, *, with_order: bool) -> list[sa.Table]:
    """The tables of the signals of a drill with this name: plain, scheduled and, if wanted, keyed ones."""
    metadata = sa.MetaData()
    tables = [_table(metadata, name), _table(metadata, name + SCHEDULED)]
    if with_order:
        account = sa.Column(ACCOUNT, sa.Integer, nullable=False)
        tables.append(_table(metadata, name + KEYED, account))
    return tables


def _table(metadata: sa.MetaData, name: str, *more: sa.Column[int]) -> sa.Table:
    number = sa.Column("number", sa.BigInteger, nullable=False)
    return sa.Table(name, metadata, sa.Column("id", sa.BigInteger, primary_key=True), number, *more)


def prepare(connection: Connection, tables: Sequence[sa.Table]) -> None:
    """Add positions and times to tables that were created."""
    for table in tables:
        statements: list[str] = []
        if table.name.endswith(KEYED):
            statements = order_sql(table, by=ACCOUNT)
        elif table.name.endswith(SCHEDULED):
            statements = scheduled_sql(table)
        for statement in statements:
            connection.exec_driver_sql(statement)


def drop_sql(name: str) -> str:
    """The statements that remove a table of a drill, and what belongs to it."""
    function = f'; DROP FUNCTION IF EXISTS "{name}_signalbus_position"()' if name.endswith(KEYED) else ""
    return f'DROP TABLE IF EXISTS "{name}"{function};'
