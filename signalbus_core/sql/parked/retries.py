"""Waiting signals whose next try is due: the SQL that locks their records, postpones them, or makes others due.

Of the signals that one destination refused, only a few are tried; the others wait for their result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import ARRAY, CursorResult, Table, Text, any_, bindparam, case, func, null, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from ...model.contract import SignalSpec
from ...schema.own_tables import LATER_COLUMNS, lacks_columns, parked_table_of
from ..keys import Key, SignalRef
from .histories import keys_of


@dataclass(frozen=True)
class DueSignal:
    """A waiting signal whose next try is due.

    :param text: its key as recorded.
    :param error_class: of its last failure.
    :param destination: who refused it; None when nobody did, or when it is tried independently of its destination.
    :param version: the recorded version of its row; None for any row with this key.
    """

    key: Key
    text: str
    error_class: str
    destination: str | None = None
    version: str | None = None


#: So many signals of a destination are candidates; one whose record is not locked is taken.
_TRIALS = 3


def due_signals(
    connection: Connection, spec: SignalSpec, limit: int, besides: Sequence[SignalRef] = ()
) -> list[DueSignal]:
    """Waiting signals that are due, longest overdue first, without those whose records are locked.

    They include only a few of the signals that one destination refused.

    :param besides: signals to leave out.
    """
    table = parked_table_of(spec)
    is_old = lacks_columns(connection, table)
    version, destination = (null() if is_old else table.c[name] for name in LATER_COLUMNS)
    due = [table.c.table_name == spec.table.fullname, table.c.next_try_at <= func.now()]
    chosen = (
        select(table.c.key, table.c.error_class, _grouped(table, is_old), version)
        .where(*due)
        .order_by(table.c.next_try_at)
        .limit(limit + len(besides))
        .with_for_update(skip_locked=True)
    )
    if not is_old:
        turn = func.row_number().over(partition_by=destination, order_by=table.c.last_failed_at)
        grouped = select(table.c.key, turn.label("turn")).where(*due, _grouped(table).is_not(None)).subquery()
        trials = select(grouped.c.key).where(grouped.c.turn <= _TRIALS + len(besides))
        chosen = chosen.where(or_(_grouped(table).is_(None), table.c.key.in_(trials)))
    rows = connection.execute(chosen).all()
    keys = keys_of(connection, spec, [row[0] for row in rows])
    found = [DueSignal(keys[row[0]], *row) for row in rows if row[0] in keys]
    return [one for one in found if one.key not in besides]


def _grouped(table: Table, is_old: bool = False) -> ColumnElement[Any]:
    """The destination by which a signal is grouped; NULL when it is tried by itself."""
    return null() if is_old else case((table.c.attempts != 0, table.c.destination))


def postpone(connection: Connection, spec: SignalSpec, signals: Sequence[DueSignal], wait_seconds: float) -> None:
    """Postpone signals without counting an attempt: another transaction is trying them, or blocks the try."""
    table = parked_table_of(spec)
    texts = bindparam("texts", [signal.text for signal in signals], type_=ARRAY(Text))
    connection.execute(
        sql_update(table)
        .where(table.c.table_name == spec.table.fullname, table.c.key == any_(texts), table.c.next_try_at.is_not(None))
        .values(next_try_at=func.now() + timedelta(seconds=wait_seconds))
    )


def postpone_destination(
    connection: Connection, spec: SignalSpec, destination: str, attempts: int, wait_seconds: float
) -> None:
    """Have all signals that a destination refused wait for it as long as the one that tried it.

    In a table without destinations each waits for itself.
    """
    table = parked_table_of(spec)
    if lacks_columns(connection, table):
        return
    until = func.now() + timedelta(seconds=wait_seconds)
    connection.execute(
        sql_update(table)
        .where(*_refused_by(table, spec, destination, table.c.next_try_at < until))
        .values(next_try_at=until, attempts=func.greatest(table.c.attempts, attempts))
    )


def release_destination(connection: Connection, spec: SignalSpec, destination: str) -> int:
    """Make all signals that a destination refused due at once, no longer grouped; return how many."""
    table = parked_table_of(spec)
    updated = connection.execute(
        sql_update(table).where(*_refused_by(table, spec, destination)).values(next_try_at=func.now(), attempts=0)
    )
    return cast("CursorResult[Any]", updated).rowcount


def _refused_by(
    table: Table, spec: SignalSpec, destination: str, *conditions: ColumnElement[bool]
) -> list[ColumnElement[bool]]:
    """The conditions of records that wait for a destination; none of those that somebody has locked."""
    mine = table.c.table_name == spec.table.fullname
    waiting = [mine, table.c.destination == destination, table.c.next_try_at.is_not(None), *conditions]
    free = select(table.c.key).where(*waiting).with_for_update(skip_locked=True)
    return [mine, table.c.key == any_(func.array(free.scalar_subquery()))]


def forget_records(connection: Connection, spec: SignalSpec, signals: Sequence[DueSignal]) -> None:
    """Delete the records of signals that are gone."""
    table = parked_table_of(spec)
    texts = bindparam("texts", [signal.text for signal in signals], type_=ARRAY(Text))
    connection.execute(sql_delete(table).where(table.c.table_name == spec.table.fullname, table.c.key == any_(texts)))
