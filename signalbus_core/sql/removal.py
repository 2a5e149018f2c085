"""How a sent signal leaves the rows to be sent: its row is deleted, or marked by an UPDATE, as its model says.

Invariant: a row counts as removed only when it is proved to be no signal any more: it is gone, or, after the UPDATE, it
does not meet the model's condition.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, CursorResult, Delete, Update, literal_column, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.sql import ColumnElement

from ..model.contract import SignalSpec


def removal(spec: SignalSpec) -> Delete | Update:
    """The statement that removes signals; its result goes to :func:`removed`."""
    if not spec.done:
        return sql_delete(spec.table)
    # As text, and not as text(), where a colon would begin a parameter.
    values: dict[Any, Any] = {spec.table.c[name]: literal_column(expression) for name, expression in spec.done}
    stays = literal_column(f"({spec.condition}) IS TRUE", Boolean)
    return update(spec.table).values(values).where(*spec.is_signal).returning(stays)


def removed(spec: SignalSpec, result: CursorResult[Any]) -> int:
    """How many signals the statement has removed."""
    return sum(not stays for (stays,) in result) if spec.done else result.rowcount


def is_left(spec: SignalSpec) -> tuple[ColumnElement[bool], ...]:
    """The conditions, beside those of its key or id, that a row is not removed."""
    return spec.is_signal if spec.done else ()
