"""When the signals of a model are due: the columns with a time before which a row is not sent. NULL: at once.

A model has the column ``signalbus_send_after`` (:class:`~signalbus_core.ScheduledSignal`); for a table that others
write, the relay names the columns. Both are one mechanism.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Date, DateTime, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeDecorator

from ..errors import SignalModelError

#: The name of the column, and of the attribute.
SEND_AFTER = "signalbus_send_after"


@dataclass(frozen=True)
class Schedule:
    """The columns of a model that say when its signals are due: each is NULL, or in the past.

    :param columns: those of type ``timestamptz`` are moments; ``timestamp`` and ``date`` are taken as UTC.
    :param is_indexed: there is one column, of a time, and an index on it and the key finds due signals, and the next
        one to become due, however many others there are.
    """

    columns: tuple[Column[Any], ...]
    is_indexed: bool = False


def schedule_of(mapper: Mapper[Any], name: str) -> Schedule | None:
    """When the signals of a model are due; None when all are at once.

    :param name: of the model, for messages.
    :raises SignalModelError: its column ``signalbus_send_after`` is no timestamp with time zone.
    """
    given = getattr(mapper.class_, "signalbus_schedule", None)
    if isinstance(given, Schedule):
        return given
    column = mapper.columns.get(SEND_AFTER)
    if column is None:
        return None
    if not isinstance(column, Column) or not has_zone(column):
        raise SignalModelError(
            f"{name}.{SEND_AFTER} is of type {column.type!r}. It must be a DateTime(timezone=True): the time before "
            "which a signal is not sent. Without a time zone it would depend on the session that wrote it. "
            "The mixin ScheduledSignal has the column."
        )
    return Schedule((column,), _has_index(mapper, column))


def has_zone(column: Column[Any]) -> bool:
    """Whether its values are moments; those of other columns are taken as UTC."""
    kind = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    return isinstance(kind, DateTime) and kind.timezone


def is_date(column: Column[Any]) -> bool:
    return isinstance(column.type, Date)


def _has_index(mapper: Mapper[Any], column: Column[Any]) -> bool:
    """Whether the table declares the index of :class:`~signalbus_core.ScheduledSignal`."""
    table = mapper.local_table
    wanted = [column, *mapper.primary_key]
    return isinstance(table, Table) and any(list(index.expressions) == wanted for index in table.indexes)
