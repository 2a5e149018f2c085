"""The table ``signalbus_parked``: which signals are set aside, since when, and why.

It lies beside the signal models, in each of their databases, so that it holds for all processes and is heeded by SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateTable, SetTableComment

from .contract import SignalSpec
from .privileges import privileges_problem
from .quoting import PLAIN

TABLE_NAME = "signalbus_parked"

#: The class of signals that were sent, and are still in their table because the database does not let them be deleted.
UNDELETED = "undeleted"


@dataclass(frozen=True)
class SetAside:
    """A signal that is set aside.

    :param table_name: its table.
    :param model: the name of its model when it failed last.
    :param key: its primary key as text; of several columns, a JSON array.
    :param attempts: how often in a row it was refused, or failed for its own sake; outages are not counted.
    :param next_try_at: None when it is parked: it waits for a person.
    :param error_class: what kept it: ``returned``, ``nacked``, ``refused``, ``invalid``, ``closed`` or ``error``.
    :param error_text: the reason, for people; never the payload.
    """

    table_name: str
    key: str
    model: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    next_try_at: datetime | None
    error_class: str
    error_text: str

    @property
    def is_parked(self) -> bool:
        return self.next_try_at is None


def parked_table(metadata: MetaData) -> Table:
    """The table of signals that are set aside, as a part of ``metadata``.

    ``metadata.info["signalbus_parked"]`` may give it another name.
    """
    schema, name = metadata.schema, metadata.info.get("signalbus_parked", TABLE_NAME)
    known = metadata.tables.get(f"{schema}.{name}" if schema else name)
    if known is not None:
        return known
    return Table(
        name,
        metadata,
        # By the table, not by the model: other applications may have a class of the same name.
        Column("table_name", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("model", Text, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("first_failed_at", DateTime(timezone=True), nullable=False),
        Column("last_failed_at", DateTime(timezone=True), nullable=False),
        Column("next_try_at", DateTime(timezone=True)),
        Column("error_class", Text, nullable=False),
        Column("error_text", Text, nullable=False),
        comment="Signals that the Signalbus relay has set aside",
    )


def parked_table_sql() -> str:
    """The statements that create the table in PostgreSQL, for migrations written by hand."""
    table = parked_table(MetaData())
    statements = (CreateTable(table), SetTableComment(table))
    return "\n".join(f"{str(statement.compile(dialect=PLAIN)).strip()};" for statement in statements)


def parked_table_of(spec: SignalSpec) -> Table:
    """The table for the signals of a model, in the model's own database."""
    return parked_table(spec.table.metadata)


def parked_table_problem(connection: Connection, table: Table) -> str | None:
    """Why a relay cannot use the table: it is missing, or closed to this login. None when it can."""
    return privileges_problem(connection, table, ("SELECT", "INSERT", "UPDATE", "DELETE"))
