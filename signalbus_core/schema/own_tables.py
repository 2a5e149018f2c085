"""The tables of Signalbus itself.

Failed signals (the retry store) and paused models, both keyed by table name, the history of what was sent, the inbox
of consumers, and what each relay says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import DDL, JSON, Column, Date, DateTime, Index, Integer, MetaData, Table, Text, event, func, text
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateIndex, CreateTable, SetTableComment

from ..model.contract import SignalSpec
from .catalog import privileges_problem
from .quoting import PLAIN, quoted

#: Columns that earlier versions did not create. Without them a record applies to a key, whichever row has it.
LATER_COLUMNS = ("row_version", "destination")

#: The error class of signals that were sent, but that the database does not let be deleted.
UNDELETED = "undeleted"

#: The error class of parked signals that no longer hold back the later ones of their key.
SKIPPED = "skipped"


@dataclass(frozen=True)
class FailureRecord:
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


@dataclass(frozen=True)
class Pause:
    """A signal model that no relay sends.

    :param reason: given by the person who paused it; None when not given.
    """

    model: str
    paused_at: datetime
    reason: str | None


#: Since SQLAlchemy 2.1.
CREATE_HAS_STORAGE = "with" in dict(PGDialect.construct_arguments or ())[Table]


@dataclass(frozen=True)
class OwnTable:
    """A table of Signalbus itself. ``metadata.info`` may give it another name, under the key of its usual one.

    :param columns: makes its columns.
    :param later_columns: columns of type TEXT that earlier versions did not create.
    :param read_with: the privileges that reading needs.
    :param changed_with: the privileges that changing needs.
    :param storage: its storage parameters in PostgreSQL.
    :param partition_by: how it is partitioned in PostgreSQL.
    """

    name: str
    comment: str
    columns: Callable[[], Sequence[Column[Any] | Index]]
    read_with: tuple[str, ...]
    changed_with: tuple[str, ...]
    later_columns: tuple[str, ...] = ()
    storage: Mapping[str, str] = field(default_factory=dict)
    partition_by: str | None = None

    def table(self, metadata: MetaData) -> Table:
        """The table as a part of ``metadata``."""
        schema, name = metadata.schema, metadata.info.get(self.name, self.name)
        known = metadata.tables.get(f"{schema}.{name}" if schema else name)
        if known is not None:
            return known
        options: dict[str, Any] = {}
        if self.partition_by is not None:
            options["postgresql_partition_by"] = self.partition_by
        if self.storage and CREATE_HAS_STORAGE:
            options["postgresql_with"] = dict(self.storage)
        table = Table(name, metadata, *self.columns(), comment=self.comment, **options)
        if setting := self._storage_sql("%(fullname)s"):
            # SQLAlchemy fills in the name, with its schema translated.
            statement = DDL(setting)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", statement.execute_if(dialect="postgresql"))
        return table

    def _storage_sql(self, name: str) -> str | None:
        """The statement that sets its storage parameters, where CREATE TABLE cannot."""
        if not self.storage or CREATE_HAS_STORAGE:
            return None
        setting = ", ".join(f"{parameter} = {value}" for parameter, value in self.storage.items())
        return f"ALTER TABLE {name} SET ({setting})"

    def of(self, spec: SignalSpec) -> Table:
        """The table for a model, in the model's own database."""
        return self.table(spec.table.metadata)

    def sql(self, metadata: MetaData | None = None) -> str:
        """The statements that create the table in PostgreSQL, or add what it lacks, for migrations written by hand."""
        table = self.table(metadata or MetaData())
        adding = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} TEXT" for name in self.later_columns)
        statements = [
            CreateTable(table, if_not_exists=True).compile(dialect=PLAIN),
            *([f"ALTER TABLE {PLAIN.identifier_preparer.format_table(table)} {adding}"] if adding else []),
            *filter(None, [self._storage_sql(PLAIN.identifier_preparer.format_table(table))]),
            *(CreateIndex(index, if_not_exists=True).compile(dialect=PLAIN) for index in table.indexes),
            SetTableComment(table).compile(dialect=PLAIN),
        ]
        return "\n".join(f"{str(statement).strip()};" for statement in statements)

    def problem(self, connection: Connection, table: Table, *, for_change: bool = False) -> str | None:
        """Why the table cannot be read, or changed: it, or a privilege on it, is missing. None when it can."""
        return privileges_problem(connection, table, self.changed_with if for_change else self.read_with)


# The key is that of the table, not of the model: other applications may have a class of the same name.
PARKED = OwnTable(
    "signalbus_parked",
    "Signals that the Signalbus relay has set aside",
    lambda: (
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
    ),
    read_with=("SELECT", "INSERT", "UPDATE", "DELETE"),
    changed_with=("SELECT", "INSERT", "UPDATE", "DELETE"),
    later_columns=LATER_COLUMNS,
)

PAUSED = OwnTable(
    "signalbus_paused",
    "Signal models that the Signalbus relay leaves alone",
    lambda: (
        Column("table_name", Text, primary_key=True),
        Column("model", Text, nullable=False),
        Column("paused_at", DateTime(timezone=True), nullable=False),
        Column("reason", Text),
    ),
    read_with=("SELECT",),
    changed_with=("SELECT", "INSERT", "DELETE"),
)

# One row for each signal that was sent, of models that keep what was sent. Partitioned by the day until which it is
# kept, so that models with different times share the table, and a day is dropped by whichever relay comes first.
SENT = OwnTable(
    "signalbus_sent",
    "Signals that were sent, kept for some days",
    lambda: (
        Column("keep_until", Date, nullable=False),
        Column("sent_at", DateTime(timezone=True), nullable=False),
        Column("written_at", DateTime(timezone=True)),
        Column("table_name", Text, nullable=False),
        Column("key", Text, nullable=False),
        # Of the first message; NULL where the send method does not tell. Those of the others: an array of objects.
        Column("message_id", Text),
        Column("exchange", Text),
        Column("routing_key", Text),
        Column("more_messages", JSON(none_as_null=True)),
        # Of each column its text, in PostgreSQL's own format, which gives the same value again.
        Column("row", JSON(none_as_null=True), nullable=False),
        Index("signalbus_sent_key", "table_name", "key"),
        Index("signalbus_sent_at", "table_name", "sent_at"),
        Index("signalbus_sent_message", "message_id"),
    ),
    read_with=("SELECT",),
    changed_with=("SELECT", "DELETE"),
    partition_by="RANGE (keep_until)",
)

# "C": an upgrade of the operating system that changes the order of texts must not damage what makes ids unique.
_EXACT = Text().with_variant(Text(collation="C"), "postgresql")

INBOX = OwnTable(
    "signalbus_inbox",
    "Messages that consumers have processed",
    lambda: (
        Column("consumer", _EXACT, primary_key=True),
        Column("message_id", _EXACT, primary_key=True),
        # Cleaning finds old rows by it.
        Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
    ),
    read_with=("SELECT", "INSERT"),
    changed_with=("SELECT", "DELETE"),
    storage={"autovacuum_vacuum_scale_factor": "0.05"},
)

RELAYS = OwnTable(
    "signalbus_relays",
    "What each Signalbus relay says of itself, for the status pages of the others",
    lambda: (
        Column("id", Text, primary_key=True),
        # Several applications may share the table.
        Column("application", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("version", Text, nullable=False),
        Column("started_at", DateTime(timezone=True), nullable=False),
        Column("seen_at", DateTime(timezone=True), nullable=False),
        # JSON as text: an application may have functions of its own to read and write JSON.
        Column("report", Text, nullable=False),
    ),
    read_with=("SELECT",),
    changed_with=("SELECT", "INSERT", "UPDATE", "DELETE"),
    # A row that is updated every few seconds: its next version fits into its page, so that no index changes, and the
    # old version is removed with the next update.
    storage={"fillfactor": "50"},
)

parked_table, parked_table_of, parked_table_sql = PARKED.table, PARKED.of, PARKED.sql
paused_table, paused_table_of, paused_table_sql = PAUSED.table, PAUSED.of, PAUSED.sql
parked_table_problem, paused_table_problem = PARKED.problem, PAUSED.problem
relays_table_sql = RELAYS.sql


def lacks_columns(connection: Connection, table: Table) -> bool:
    """Whether an earlier version created the retry store, and the later columns are still missing."""
    given = {"name": quoted(table), "names": list(LATER_COLUMNS)}
    found: int = connection.scalar(_FOUND, given) or 0
    return found < len(LATER_COLUMNS)


_FOUND = text(
    "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(:name) AND NOT attisdropped"
    " AND attname = ANY(CAST(:names AS text[]))"
)

#: Longer reasons are cut to so many characters.
LONGEST_REASON = 1000


def storable(text: str) -> str:
    """A text that PostgreSQL can store: without NUL, and without characters that UTF-8 cannot encode."""
    return text.replace("\0", " ").encode(errors="backslashreplace").decode()[:LONGEST_REASON]
