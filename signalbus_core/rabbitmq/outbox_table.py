"""The SQL of an outbox table, for those who write no model."""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.orm import registry
from sqlalchemy.schema import CreateTable

from ..quoting import PLAIN
from .outbox import OutboxMessage


def outbox_table_sql(table_name: str, schema: str | None = None) -> str:
    """The statement that creates in PostgreSQL the table of an ``OutboxMessage``, for migrations written by hand."""
    members = {"__tablename__": table_name, "__table_args__": {"schema": schema}}
    model = type("Outbox", (OutboxMessage, registry().generate_base()), members)
    table = model.__table__  # type: ignore[attr-defined]
    assert isinstance(table, Table)
    statement = CreateTable(table).compile(dialect=PLAIN)
    return f"{str(statement).strip()};".replace("\t", "    ").replace(" \n", "\n")
