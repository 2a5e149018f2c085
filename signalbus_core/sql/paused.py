"""Paused signal models: the SQL that pauses, resumes and lists them.

A paused model's signals stay in their table. Relays honour a pause; commands that a person runs (``flushmany``) do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, func, literal, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from ..model.contract import SignalSpec
from ..schema.own_tables import Pause, paused_table_of, storable


def pause(connection: Connection, spec: SignalSpec, reason: str | None) -> bool:
    """Pause a model; return False when it is already paused, and keeps its first reason."""
    table = paused_table_of(spec)
    inserted = connection.execute(
        insert(table)
        .values(
            table_name=spec.table.fullname,
            model=spec.name,
            paused_at=func.now(),
            reason=None if reason is None else storable(reason),
        )
        .on_conflict_do_nothing()
    )
    return bool(inserted.rowcount)


def resume(connection: Connection, spec: SignalSpec) -> bool:
    """Resume a model; return False when it is not paused."""
    table = paused_table_of(spec)
    deleted = connection.execute(sql_delete(table).where(table.c.table_name == spec.table.fullname))
    return bool(cast("CursorResult[Any]", deleted).rowcount)


def list_pauses(connection: Connection, specs: Sequence[SignalSpec]) -> list[Pause]:
    """The pauses of these models of one database, oldest pause first."""
    if not specs:
        return []
    names = {spec.table.fullname: spec.name for spec in specs}
    table = paused_table_of(specs[0])
    rows = connection.execute(
        select(table.c.table_name, table.c.paused_at, table.c.reason)
        .where(table.c.table_name.in_(names))
        .order_by(table.c.paused_at, table.c.table_name)
    )
    # By the present name of the model, which may have changed since it was paused.
    return [Pause(names[table_name], paused_at, reason) for table_name, paused_at, reason in rows]


def pause_column(spec: SignalSpec) -> ColumnElement[str | None]:
    """Why a model is paused, as a column of a query: empty without a reason, NULL when it is not paused."""
    table = paused_table_of(spec)
    reason = select(func.coalesce(table.c.reason, literal(""))).where(table.c.table_name == spec.table.fullname)
    return cast("ColumnElement[str | None]", reason.scalar_subquery())
