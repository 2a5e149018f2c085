"""The tables of Signalbus itself: failed signals (the retry store) and paused models. Both are keyed by table name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text, text
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateTable, SetTableComment

from ..model.contract import SignalSpec
from .catalog import privileges_problem
from .quoting import PLAIN, quoted

PARKED_TABLE_NAME = "signalbus_parked"

#: Columns that earlier versions did not create. Without them a record applies to a key, whichever row has it.
LATER_COLUMNS = ("row_version", "destination")

#: The error class of signals that were sent, but that the database does not let be deleted.
UNDELETED = "undeleted"


@dataclass(frozen=True)
class SetAside:
    """A failed signal.

    :param table_name: its table.
    :param model: the name of its model when it failed last.
    :param key: its primary key as text; of several columns, a JSON array.
    :param attempts: how often in a row it was refused or failed by its own fault; outages are not counted.
    :param next_try_at: None when it is parked: it waits for a person.
    :param error_class: why it failed: ``returned``, ``nacked``, ``refused``, ``invalid``, ``closed`` or ``error``;
      ``undeleted`` if it was sent: only its delete is tried again, never its send.
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

    @property
    def was_sent(self) -> bool:
        """Whether its message has arrived, and only its row has to be deleted."""
        return self.error_class == UNDELETED

    @property
    def why(self) -> str:
        """Why it failed, for people."""
        if self.was_sent:
            return f"was sent; cannot be deleted: {self.error_text}"
        return f"{self.error_class}: {self.error_text}"


def parked_table(metadata: MetaData) -> Table:
    """The table of failed signals (the retry store), as a part of ``metadata``.

    ``metadata.info["signalbus_parked"]`` may give it another name.
    """
    schema, name = metadata.schema, metadata.info.get("signalbus_parked", PARKED_TABLE_NAME)
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
        # Which version of the row failed (its xmin). NULL: any row with this key.
        Column("row_version", Text),
        # Who refused it. One of the signals of a destination is tried for all of them.
        Column("destination", Text),
        comment="Signals that the Signalbus relay has set aside",
    )


def parked_table_sql() -> str:
    """The statements that create the table in PostgreSQL, or add what it lacks, for migrations written by hand."""
    table = parked_table(MetaData())
    adding = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} TEXT" for name in LATER_COLUMNS)
    statements = (
        str(CreateTable(table, if_not_exists=True).compile(dialect=PLAIN)).strip(),
        f"ALTER TABLE {PLAIN.identifier_preparer.format_table(table)} {adding}",
        str(SetTableComment(table).compile(dialect=PLAIN)).strip(),
    )
    return "\n".join(f"{statement};" for statement in statements)


def parked_table_of(spec: SignalSpec) -> Table:
    """The table for the signals of a model, in the model's own database."""
    return parked_table(spec.table.metadata)


def parked_table_problem(connection: Connection, table: Table) -> str | None:
    """Why a relay cannot use the table: it, or a privilege on it, is missing. None when it can."""
    return privileges_problem(connection, table, ("SELECT", "INSERT", "UPDATE", "DELETE"))


def lacks_columns(connection: Connection, table: Table) -> bool:
    """Whether an earlier version created the table, and the later columns are still missing."""
    given = {"name": quoted(table), "names": list(LATER_COLUMNS)}
    found: int = connection.scalar(_FOUND, given) or 0
    return found < len(LATER_COLUMNS)


_FOUND = text(
    "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(:name) AND NOT attisdropped"
    " AND attname = ANY(CAST(:names AS text[]))"
)


PAUSED_TABLE_NAME = "signalbus_paused"


@dataclass(frozen=True)
class Pause:
    """A signal model that no relay sends.

    :param reason: given by the person who paused it; None when not given.
    """

    model: str
    paused_at: datetime
    reason: str | None


def paused_table(metadata: MetaData) -> Table:
    """The table of paused signal models, as a part of ``metadata``.

    ``metadata.info["signalbus_paused"]`` may give it another name.
    """
    schema, name = metadata.schema, metadata.info.get("signalbus_paused", PAUSED_TABLE_NAME)
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
    """The table of paused models in the model's own database."""
    return paused_table(spec.table.metadata)


def paused_table_problem(connection: Connection, table: Table, *, for_change: bool = False) -> str | None:
    """Why the table cannot be read, or changed: it, or a privilege on it, is missing. None when it can."""
    return privileges_problem(connection, table, ("SELECT", "INSERT", "DELETE") if for_change else ("SELECT",))
