"""Erases what was sent, and what is noted about it: what belongs to a person, for example.

Rows that are still to be sent are only counted: they are no history, and `parked discard` or the application removes
them. The note of a failed signal keeps it from being sent again, so that only its text is erased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, func, literal_column, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from ...model.contract import SignalSpec
from ...schema.own_tables import SENT, parked_table_of
from ..keys import text_of_key
from .history import SentFilter, conditions
from .move import row_as_json

#: In place of the text of a note.
ERASED = "erased"


@dataclass(frozen=True)
class Erasure:
    """How much there is to erase, or was.

    :param sent: signals in the history.
    :param notes: notes of failed signals, whose texts are erased.
    :param pending: signals that are still in their table, and stay there.
    """

    sent: int
    notes: int
    pending: int


def count_erasable(connection: Connection, spec: SignalSpec, chosen: SentFilter, *, has_notes: bool) -> Erasure:
    """How much there is to erase.

    :param has_notes: the table of failed signals can be changed.
    """
    sent = select(func.count()).select_from(SENT.of(spec)).where(*conditions(spec, chosen))
    notes = select(func.count()).select_from(parked_table_of(spec)).where(*_noted(spec, chosen))
    return Erasure(
        connection.scalar(sent) or 0,
        (connection.scalar(notes) or 0) if has_notes else 0,
        connection.scalar(select(func.count()).select_from(_pending(spec, chosen))) or 0,
    )


def erase(connection: Connection, spec: SignalSpec, chosen: SentFilter, *, has_notes: bool) -> Erasure:
    """Erase it; return how much it was."""
    notes = 0
    if has_notes:
        # First: which notes are meant is known from the history too.
        erasing = sql_update(parked_table_of(spec)).where(*_noted(spec, chosen)).values(error_text=ERASED)
        notes = cast("CursorResult[Any]", connection.execute(erasing)).rowcount
    gone = connection.execute(sql_delete(SENT.of(spec)).where(*conditions(spec, chosen)))
    pending = connection.scalar(select(func.count()).select_from(_pending(spec, chosen))) or 0
    return Erasure(cast("CursorResult[Any]", gone).rowcount, notes, pending)


def _noted(spec: SignalSpec, chosen: SentFilter) -> list[ColumnElement[bool]]:
    """The notes of signals that are meant, whether they are in the history or still in their table."""
    table, kept = parked_table_of(spec), SENT.of(spec)
    of_kept = select(kept.c.key).where(*conditions(spec, chosen))
    of_pending = select(_pending(spec, chosen).c.key)
    return [
        table.c.table_name == spec.table.fullname,
        table.c.error_text != ERASED,
        or_(table.c.key.in_(of_kept), table.c.key.in_(of_pending)),
    ]


def _pending(spec: SignalSpec, chosen: SentFilter) -> Any:
    """The keys of signals that are meant, and still in their table."""
    rows = select(text_of_key(spec).label("key"), row_as_json(spec).label("row")).subquery("signalbus_pending")
    found = select(rows.c.key)
    if chosen.key is not None:
        found = found.where(rows.c.key == chosen.key)
    if chosen.where is not None:
        found = found.where(literal_column(f"({chosen.where})"))
    return found.subquery("signalbus_meant")
