"""The conditions that signals are due, and the order in which a burst takes them.

A scan in the order of the key would read every future signal with a low key. So a burst of a model with an index on
the time and the key takes two parts, and reads no future signal in either: those without a time, in the order of the
key, and those whose time has come, the earliest first.

The time is that of the statement, which is never later than the present: nothing is sent early.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from sqlalchemy import Column, DateTime, case, func, literal_column, or_
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from ...model.contract import SignalSpec
from ...model.schedule import has_zone, is_date


class Part(Enum):
    """A part of a model's signals that may be sent.

    - ``ALL``: of a model without the index, or without a schedule, whose signals are all due.
    - ``AT_ONCE``: those without a time.
    - ``DUE``: those whose time has come.
    - ``NEWEST``: those that are due, or those without a time where there is an index, the highest keys first.
    """

    ALL = "all"
    AT_ONCE = "at once"
    DUE = "due"
    NEWEST = "newest"


class _Now(FunctionElement[Any]):
    """The time of the statement, for a comparison with a column of this type."""

    inherit_cache = True

    def __init__(self, like: Column[Any]) -> None:
        super().__init__()
        self.type = like.type


class _StatementTime(_Now):
    inherit_cache = True


class _StatementTimeUtc(_Now):
    inherit_cache = True


class _StatementDate(_Now):
    inherit_cache = True


@compiles(_Now)
def _sqlite_now(*_: Any, **__: Any) -> str:
    # As SQLAlchemy stores times in SQLite: as text, in UTC.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(_StatementTime, "postgresql")
def _now(*_: Any, **__: Any) -> str:
    return "statement_timestamp()"


@compiles(_StatementTimeUtc, "postgresql")
def _now_utc(*_: Any, **__: Any) -> str:
    return "timezone('UTC', statement_timestamp())"


@compiles(_StatementDate, "postgresql")
def _today(*_: Any, **__: Any) -> str:
    return "CAST(timezone('UTC', statement_timestamp()) AS date)"


def now(column: Column[Any]) -> ColumnElement[Any]:
    """The present time in the type of this column."""
    if is_date(column):
        return _StatementDate(column)
    return _StatementTime(column) if has_zone(column) else _StatementTimeUtc(column)


def is_divided(spec: SignalSpec, dialect: Dialect) -> bool:
    """Whether a burst takes the parts one after the other."""
    return spec.schedule is not None and spec.schedule.is_indexed and dialect.name == "postgresql"


def parts_of(spec: SignalSpec, dialect: Dialect) -> tuple[Part, ...]:
    """The parts that together are all signals that may be sent."""
    return (Part.AT_ONCE, Part.DUE) if is_divided(spec, dialect) else (Part.ALL,)


def may_be_sent(spec: SignalSpec, part: Part = Part.ALL) -> tuple[ColumnElement[bool], ...]:
    """The conditions that a row is in this part; none where all rows are."""
    if spec.schedule is None:
        return ()
    columns = spec.schedule.columns
    if part is Part.AT_ONCE or (part is Part.NEWEST and spec.schedule.is_indexed):
        return tuple(column.is_(None) for column in columns)
    if part is Part.DUE:
        return tuple(column <= now(column) for column in columns)
    return tuple(or_(column.is_(None), column <= now(column)) for column in columns)


def is_future(spec: SignalSpec) -> ColumnElement[bool]:
    """The condition that a row is a signal that is not due yet. Of a model with a schedule."""
    assert spec.schedule is not None
    later = [column > now(column) for column in spec.schedule.columns]
    return later[0] if len(later) == 1 else or_(*later)


def order_of(spec: SignalSpec, part: Part) -> tuple[ColumnElement[Any], ...]:
    """The columns by which a burst takes the signals of this part.

    The time comes first in the order of both parts that have the index, although it is always NULL in one of them:
    else PostgreSQL would not see that the index has that order.
    """
    has_index = spec.schedule is not None and spec.schedule.is_indexed
    times = spec.schedule.columns if spec.schedule is not None and has_index and part is not Part.ALL else ()
    columns = (*times, *spec.primary_key)
    return tuple(column.desc() for column in columns) if part is Part.NEWEST else columns


def moments_due(spec: SignalSpec, part: Part) -> list[ColumnElement[Any]]:
    """When signals of this part became due, as columns of a query on PostgreSQL; NULL for those without a time."""
    if spec.schedule is None or part is Part.AT_ONCE:
        return []
    return [_moment(column) for column in spec.schedule.columns]


def finite(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    """A moment, NULL when it is infinite: an age since then is an error of PostgreSQL."""
    return case((func.isfinite(moment), moment))


def _moment(column: Column[Any]) -> ColumnElement[Any]:
    if has_zone(column):
        # An age since -infinity is an error of PostgreSQL.
        return func.nullif(column, literal_column("'-infinity'"), type_=DateTime(timezone=True))
    return func.timezone("UTC", func.nullif(sql_cast(column, DateTime()), literal_column("'-infinity'")))
