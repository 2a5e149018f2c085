"""What a poll asks about a model, as columns of its query: whether there is work, and how much."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, Boolean, Double, Text, func, literal, literal_column, null, or_, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ColumnElement, Select

from ...model.contract import SignalSpec
from ..keys import is_from
from ..ordered.heads import has_takeable
from ..parked import LeaveOut, count_blocking, count_columns, is_due, leaving_out
from ..paused import pause_column
from ..schedule.conditions import Part, finite, moments_due, order_of, parts_of
from ..schedule.peek import any_in_order, next_seconds, scheduled_count
from ..selection import Choice, all_keys, pending


@dataclass(frozen=True)
class Work:
    """The work that a poll found for a model.

    :param pending: there are signals to send.
    :param due: there are waiting signals whose next try is due.
    :param paused: why the model is paused, empty when no reason was given; None when it is not paused.
    :param lowest: the lowest key of those to send, where the choice has a start key.
    :param next_seconds: until the next scheduled signal is due; None when none is known.
    """

    spec: SignalSpec
    pending: bool
    due: bool
    paused: str | None = None
    lowest: int | None = None
    next_seconds: float | None = None


@dataclass(frozen=True)
class Measurement:
    """The backlog of a model.

    :param backlog: the number of signals that are due; counting stops at a limit.
    :param head: the lowest key of those that are not parked, as text; None when there is none. It shows whether the
      oldest signal has changed.
    :param age_seconds: the age of that signal, by the clock of the database; None when its model has no time of
      writing.
    :param waiting: how many signals wait for their next try.
    :param parked: how many signals are parked.
    :param blocked: how many failed signals hold back the later ones of their key.
    :param scheduled: how many signals are not due yet; counting stops at the same limit.
    """

    backlog: int
    head: str | None
    age_seconds: float | None = None
    waiting: int = 0
    parked: int = 0
    blocked: int = 0
    scheduled: int = 0


@dataclass(frozen=True)
class Find:
    """How to find the work of a model: everything that the SQL of its columns depends on.

    :param choice: without its start key.
    :param has_schedule: any model of the query has scheduled signals, so that it has one more column.
    """

    spec: SignalSpec
    choice: Choice
    has_start: bool
    has_paused_table: bool
    has_schedule: bool

    @property
    def width(self) -> int:
        return 5 if self.has_schedule else 4

    @property
    def variant(self) -> Hashable:
        """What the query depends on beside the model, where the choice names no keys."""
        return self.choice.leave_out, self.has_start, self.has_paused_table, self.has_schedule

    def columns(self, dialect: Dialect, start: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        found, lowest = self._found(dialect, start)
        return [
            sql_cast(found, Boolean),
            sql_cast(lowest, BigInteger),
            literal_column("false") if self.choice.leave_out is LeaveOut.NOTHING else is_due(self.spec),
            sql_cast(pause_column(self.spec) if self.has_paused_table else null(), Text),
            *([next_seconds(self.spec, dialect)] if self.has_schedule else []),
        ]

    def _found(self, dialect: Dialect, start: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """Whether there is a signal, and the lowest key, each where it is wanted."""
        spec = self.spec
        if spec.order is not None:
            return has_takeable(spec, dialect, self.choice), null()
        first, *others = parts_of(spec, dialect)
        if not self.has_start:
            return or_(*(self._exists(dialect, part) for part in (first, *others))), null()
        keys = select(*spec.primary_key).select_from(spec.model).where(is_from(spec, start))
        lowest = keys.order_by(*order_of(spec, first)).limit(1)
        lowest = pending(spec, dialect, replace(self.choice, part=first), lowest)
        found = or_(*(self._exists(dialect, part) for part in others)) if others else null()
        return found, lowest.scalar_subquery()

    def _exists(self, dialect: Dialect, part: Part) -> ColumnElement[bool]:
        found = select(literal(1)).select_from(self.spec.model)
        found = pending(self.spec, dialect, replace(self.choice, part=part), found)
        return found.exists() if part is Part.ALL else any_in_order(self.spec, part, found)

    def answer(self, values: Sequence[Any]) -> Work:
        found, lowest, is_due, paused, *seconds = values
        return Work(self.spec, bool(found) or lowest is not None, bool(is_due), paused, lowest, *seconds)


@dataclass(frozen=True)
class Measure:
    """How to measure a model: everything that the SQL of its columns depends on.

    :param has_schedule: any model of the query has scheduled signals, so that it has one more column.
    """

    spec: SignalSpec
    most: int | None
    has_parked_table: bool
    has_start: bool
    has_schedule: bool

    @property
    def width(self) -> int:
        return 7 if self.has_schedule else 6

    @property
    def variant(self) -> Hashable:
        """What the query depends on beside the model."""
        return self.most, self.has_parked_table, self.has_start, self.has_schedule

    def columns(self, dialect: Dialect, start: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        spec = self.spec
        parts = [self._part(dialect, part, start) for part in parts_of(spec, dialect)]
        backlogs, heads, ages = zip(*parts, strict=True)
        one = len(parts) == 1
        return [
            backlogs[0] if one else func.least(sum(backlogs[1:], backlogs[0]), *_most(self.most)),
            sql_cast(heads[0] if one else func.coalesce(*heads), Text),
            sql_cast(ages[0] if one else func.greatest(*ages), Double),
            *(count if self.has_parked_table else sql_cast(null(), BigInteger) for count in count_columns(spec)),
            count_blocking(spec) if spec.order is not None and self.has_parked_table else literal_column("0"),
            *([scheduled_count(spec, dialect, self.most)] if self.has_schedule else []),
        ]

    def _part(self, dialect: Dialect, part: Part, start: ColumnElement[Any]) -> tuple[ColumnElement[Any], ...]:
        """The number of signals in a part, the first key, and the age of that signal."""
        spec = self.spec
        keys = all_keys(spec, part)
        if self.has_start and part is not Part.DUE:
            # ORDER BY the key, so that PostgreSQL uses the index from there, and reads no dead rows before.
            keys = keys.where(is_from(spec, start)).order_by(*order_of(spec, part))
        elif part is not Part.ALL:
            keys = keys.order_by(*order_of(spec, part))
        counted = keys.limit(self.most).subquery()
        # The lag is the age of the lowest key: the minimum time of writing would need a scan of the whole table.
        first = keys.order_by(None).order_by(*order_of(spec, part)).limit(1)
        first = leaving_out(spec, LeaveOut.PARKED if self.has_parked_table else LeaveOut.NOTHING, first)
        head = first.subquery()
        return (
            select(func.count()).select_from(counted).scalar_subquery(),
            select(func.concat_ws(",", *head.c)).scalar_subquery(),
            _age_seconds(spec, dialect, part, first),
        )

    def answer(self, values: Sequence[Any]) -> Measurement:
        backlog, head, age_seconds, waiting, parked, blocked, *scheduled = values
        return Measurement(backlog, head, age_seconds, waiting or 0, parked or 0, blocked, *scheduled)


def _most(most: int | None) -> tuple[ColumnElement[int], ...]:
    return () if most is None else (literal_column(str(most), BigInteger),)


def _age_seconds(spec: SignalSpec, dialect: Dialect, part: Part, first: Select[Any]) -> ColumnElement[Any]:
    """The age of a signal: since it was written, and since it was due."""
    written_at = () if spec.written_at_column is None else (spec.written_at_column,)
    since = (*written_at, *moments_due(spec, part))
    if not since or dialect.name != "postgresql":
        return null()
    latest = finite(since[0] if len(since) == 1 else func.greatest(*since))
    moment = first.with_only_columns(latest).scalar_subquery()
    # Only by the clock of the server: that of the relay may differ.
    return func.date_part("epoch", func.clock_timestamp() - moment)
