"""Order by key: what ``signalbus_order_by`` of a model says, checked; and the place of a signal in a burst.

Invariant: a wave has at most one signal of a key. A burst may have signals behind a gap; a signal is sent only when the
one numbered before it was confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ARRAY, JSON, Column, Table, TypeDecorator
from sqlalchemy.orm import Mapper

from ..errors import SignalModelError
from .schedule import Schedule

T = TypeVar("T")

#: The name of the column, and of the attribute, with the position of a signal among those of its key.
POSITION = "signalbus_position"

#: What a model does with the signals behind a parked one.
ON_PARKED = ("block", "skip")


@dataclass(frozen=True)
class KeyOrder:
    """The order of a model's signals.

    :param by: the columns of the key. A signal with NULL in one of them has no order.
    :param position: the column with the position.
    :param skips_parked: a parked signal holds back none of the others of its key.
    """

    by: tuple[Column[Any], ...]
    position: Column[Any]
    skips_parked: bool = False

    @property
    def is_nullable(self) -> bool:
        """Whether a signal may have no order."""
        return any(column.nullable for column in self.by)


def resolve_order(mapper: Mapper[Any], name: str, schedule: Schedule | None = None) -> KeyOrder | None:
    """The order of a model's signals; None when it has none.

    :param schedule: of the model.
    :raises SignalModelError: the model contradicts itself.
    """
    model = mapper.class_
    named = getattr(model, "signalbus_order_by", None)
    if named is None:
        if hasattr(model, "signalbus_on_parked"):
            raise SignalModelError(
                f"{name} is an OrderedSignal, and names no key: {name}.signalbus_order_by must be the name of the "
                "column, or a tuple of several, whose equal values have their signals in order."
            )
        return None
    if schedule is not None:
        times = ", ".join(column.name for column in schedule.columns)
        raise SignalModelError(
            f"{name} has both an order and a schedule ({times}). A signal that is not due would hold back the later "
            "ones of its key, or be overtaken by them. Schedule signals of another model, whose send method adds the "
            "ordered signal to db.session when it is due."
        )
    names = (named,) if isinstance(named, str) else named
    if not isinstance(names, (tuple, list)) or not names or not all(isinstance(one, str) for one in names):
        raise SignalModelError(
            f"{name}.signalbus_order_by is {named!r}. It must be the name of a column, or a tuple of several."
        )
    if len(set(names)) < len(names):
        raise SignalModelError(f"{name}.signalbus_order_by names a column twice: {names!r}.")
    table = mapper.local_table
    assert isinstance(table, Table)
    columns = tuple(_column(mapper, table, one, name) for one in names)
    position = table.columns.get(POSITION)
    if position is None:
        raise SignalModelError(
            f"{name} has signalbus_order_by, and its table {table.fullname!r} has no column {POSITION}. "
            "Add the mixin signalbus_core.OrderedSignal in front of the model's other bases."
        )
    if any(column is position for column in columns):
        raise SignalModelError(f"{name}.signalbus_order_by names {POSITION}, which is the order itself, not the key.")
    on_parked = getattr(model, "signalbus_on_parked", ON_PARKED[0])
    if on_parked not in ON_PARKED:
        raise SignalModelError(
            f"{name}.signalbus_on_parked is {on_parked!r}. It must be 'block', so that a parked signal holds back the "
            "later ones of its key, or 'skip', so that they are sent without it."
        )
    return KeyOrder(columns, position, on_parked == "skip")


def _column(mapper: Mapper[Any], table: Table, named: str, name: str) -> Column[Any]:
    # A table without an application has columns that no attribute reads.
    column = mapper.columns[named] if named in mapper.columns else table.columns.get(named)
    if not isinstance(column, Column) or column.table is not table:
        known = ", ".join(sorted(key for key, one in mapper.columns.items() if isinstance(one, Column)))
        raise SignalModelError(
            f"{name}.signalbus_order_by names {named!r}, which is no column of {table.fullname!r}. It has {known}."
        )
    kind = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(kind, (JSON, ARRAY)):
        raise SignalModelError(
            f"{name}.signalbus_order_by names {named!r}, which is of type {column.type!r}. Order needs a key of a "
            "plain type, as integer, uuid or text: write the part of it that is the key into a column of its own."
        )
    return column


class Place(NamedTuple):
    """The place of a signal.

    :param key: the number of its key in the burst.
    :param number: how many signals of its key come before it.
    """

    key: int
    number: int


def waves(signals: Iterable[T], place_of: Callable[[T], Place]) -> list[list[tuple[int, T]]]:
    """Signals by how many of their key come before them, each with the number of its key."""
    found: list[list[tuple[int, T]]] = []
    for signal in signals:
        key, number = place_of(signal)
        while len(found) <= number:
            found.append([])
        found[number].append((key, signal))
    return found
