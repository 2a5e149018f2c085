"""The table ``signalbus_paused``: which signal models are paused, since when, and why.

It lies beside the signal models, in each of their databases, so that a pause holds for all relays and outlives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, DateTime, MetaData, Table, Text
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateTable, SetTableComment

from .contract import SignalSpec
from .privileges import privileges_problem
from .quoting import PLAIN

TABLE_NAME = "signalbus_paused"


@dataclass(frozen=True)
class Pause:
    """A signal model that no relay sends.

    :param reason: what the person who paused it said; None when nothing.
    """

    model: str
    paused_at: datetime
    reason: str | None


def paused_table(metadata: MetaData) -> Table:
    """The table of paused signal models, as a part of ``metadata``.

    ``metadata.info["signalbus_paused"]`` may give it another name.
    """
    schema, name = metadata.schema, metadata.info.get("signalbus_paused", TABLE_NAME)
    known = metadata.tables.get(f"{schema}.{name}" if schema else name)
    if known is not None:
        return known
    return Table(
        name,
        metadata,
        # By the table, not by the model: other applications may have a class of the same name.
        Column("table_name", Text, primary_key=True),
        Column("model", Text, nullable=False),
        Column("paused_at", DateTime(timezone=True), nullable=False),
        Column("reason", Text),
        comment="Signal models that the Signalbus relay leaves alone",
    )


def paused_table_sql() -> str:
    """The statements that create the table in PostgreSQL, for migrations written by hand."""
    table = paused_table(MetaData())
    statements = (CreateTable(table), SetTableComment(table))
    return "\n".join(f"{str(statement.compile(dialect=PLAIN)).strip()};" for statement in statements)


def paused_table_of(spec: SignalSpec) -> Table:
    """The table that says whether a model is paused, in the model's own database."""
    return paused_table(spec.table.metadata)


def paused_table_problem(connection: Connection, table: Table, *, for_change: bool = False) -> str | None:
    """Why the table cannot be read, or changed: it is missing, or closed to this login. None when it can."""
    return privileges_problem(connection, table, ("SELECT", "INSERT", "DELETE") if for_change else ("SELECT",))
