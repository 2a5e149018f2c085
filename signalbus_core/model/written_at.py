"""When a signal was written: the column of a model that lag and delivery latency are computed from.

Only ``timestamptz`` columns count: without a time zone the value depends on the session that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Column, DateTime
from sqlalchemy.orm import Mapper

from ..errors import SignalModelError

#: Attributes that are used when the model names none, if they have a time zone.
USUAL_NAMES = ("created_at", "inserted_at")


def written_at_attribute(mapper: Mapper[Any], name: str) -> str | None:
    """The attribute of a model with the time of writing of a signal; None when there is none.

    The model may name it by ``signalbus_created_at = "placed_at"``; None means that it has none.

    :param name: of the model, for messages.
    :raises SignalModelError: the named attribute is no timestamp with time zone.
    """
    given = getattr(mapper.class_, "signalbus_created_at", USUAL_NAMES)
    if given is USUAL_NAMES:
        return next((key for key in USUAL_NAMES if _is_moment(mapper.columns.get(key))), None)
    if given is not None and not (isinstance(given, str) and _is_moment(mapper.columns.get(given))):
        raise SignalModelError(
            f"{name}.signalbus_created_at is {given!r}. It must be the name of a column of the model that is a "
            "DateTime(timezone=True) and holds when the signal was written, or None."
        )
    return given


def _is_moment(column: Column[Any] | None) -> bool:
    return column is not None and isinstance(column.type, DateTime) and bool(column.type.timezone)


def moments(values: Iterable[Any]) -> tuple[datetime, ...]:
    """Those of the values that are times of writing: the application may have set some without a time zone."""
    return tuple([value for value in values if isinstance(value, datetime) and value.tzinfo is not None])


def later_of(written_at: Any, due_at: Any) -> Any:
    """When a signal could be sent first: once it was written, and its time had come."""
    both = moments([written_at, due_at])
    return max(both) if len(both) == 2 else written_at
