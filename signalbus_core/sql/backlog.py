"""The queries of a poll: what there is to send, and how much. One query covers many models, and changes nothing.

A relay polls every second, and building such a query takes longer than running it. So its text is put together from
templates, unless keys are its parameters.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Double,
    Text,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ColumnElement, Select

from ..model.contract import SignalSpec
from .keys import is_from
from .ordered.heads import has_takeable
from .parked import LeaveOut, count_blocking, count_columns, is_due, leaving_out
from .paused import pause_column
from .schedule.conditions import Part, finite, moments_due, order_of, parts_of
from .schedule.peek import any_in_order, next_seconds, scheduled_count
from .selection import EVERYTHING, Choice, all_keys, pending
from .templates import filled, placeholder

#: One query covers so many models. More: fewer round trips; less: each is planned, and times out, sooner.
MODELS_PER_STATEMENT = 50


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


def find_work(
    connection: Connection,
    specs: Sequence[SignalSpec],
    choices: Mapping[str, Choice],
    *,
    has_paused_table: bool = False,
) -> list[Work]:
    """Find by one query the work for each of the models.

    :param specs: models of one database.
    :param choices: for names of models, which signals count.
    :param has_paused_table: whether the table of paused models can be read.
    """
    return [work for [work] in _run(connection, [[one] for one in _finds(specs, choices, has_paused_table)])]


def measure(
    connection: Connection,
    specs: Sequence[SignalSpec],
    most: int | None,
    *,
    has_parked_table: bool = False,
    starts: Mapping[str, int | None] | None = None,
) -> list[Measurement]:
    """Measure the models by one query.

    :param specs: models of one database.
    :param most: stop counting at so many signals of a model; never when None.
    :param has_parked_table: whether the retry store can be read.
    :param starts: for names of models with a single integer key, the start key; None for all keys.
    """
    return [found for [found] in _run(connection, [[one] for one in _measures(specs, most, has_parked_table, starts)])]


def find_work_and_measure(
    connection: Connection,
    specs: Sequence[SignalSpec],
    choices: Mapping[str, Choice],
    most: int,
    *,
    has_parked_table: bool = False,
    has_paused_table: bool = False,
    starts: Mapping[str, int | None] | None = None,
) -> list[tuple[Work, Measurement]]:
    """:func:`find_work` and :func:`measure` by one query."""
    finds = _finds(specs, choices, has_paused_table)
    measures = _measures(specs, most, has_parked_table, starts)
    return [
        (work, found) for [work, found] in _run(connection, [list(both) for both in zip(finds, measures, strict=True)])
    ]


def _finds(specs: Sequence[SignalSpec], choices: Mapping[str, Choice], has_paused_table: bool) -> list[_Part]:
    parts: list[_Part] = []
    has_schedule = any(spec.schedule is not None for spec in specs)
    for spec in specs:
        choice = choices.get(spec.name, EVERYTHING)
        start = choice.start if choice.only is None else None
        parts.append(
            (_Find(spec, replace(choice, start=None), start is not None, has_paused_table, has_schedule), start)
        )
    return parts


def _measures(
    specs: Sequence[SignalSpec], most: int | None, has_parked_table: bool, starts: Mapping[str, int | None] | None
) -> list[_Part]:
    given = [(spec, (starts or {}).get(spec.name)) for spec in specs]
    has_schedule = any(spec.schedule is not None for spec in specs)
    return [(_Measure(spec, most, has_parked_table, start is not None, has_schedule), start) for spec, start in given]


@dataclass(frozen=True)
class _Find:
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
class _Measure:
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


#: A part of the query for a model, and the start key of its scan.
_Part = tuple[_Find | _Measure, int | None]


def _run(connection: Connection, models: Sequence[Sequence[_Part]]) -> list[list[Any]]:
    """Run the query for all models; return for each model the answers of its parts."""
    answers: list[list[Any]] = []
    for first in range(0, len(models), MODELS_PER_STATEMENT):
        some = models[first : first + MODELS_PER_STATEMENT]
        # UNION ALL guarantees no order.
        by_number = {row[0]: iter(row[1:]) for row in _rows(connection, some)}
        answers += [
            [part.answer(list(islice(by_number[number], part.width))) for part, _ in parts]
            for number, parts in enumerate(some)
        ]
    return answers


def _rows(connection: Connection, models: Sequence[Sequence[_Part]]) -> Iterator[Any]:
    """A row for each model, its number first: the columns of a thousand models exceed the limit of one row.

    https://www.postgresql.org/docs/current/limits.html
    """
    dialect = connection.dialect
    texts = [_text(number, parts, dialect) for number, parts in enumerate(models) if not _has_marks(parts)]
    if texts:
        yield from connection.exec_driver_sql(" UNION ALL ".join(texts))
    selects = [
        _select(number, parts, dialect, [None if start is None else literal(start, BigInteger) for _, start in parts])
        for number, parts in enumerate(models)
        if _has_marks(parts)
    ]
    if selects:
        yield from connection.execute(union_all(*selects) if len(selects) > 1 else selects[0])


def _has_marks(parts: Sequence[_Part]) -> bool:
    """Whether the statement has keys as parameters."""
    return any(isinstance(part, _Find) and (part.choice.exclude or part.choice.only is not None) for part, _ in parts)


def _text(number: int, parts: Sequence[_Part], dialect: Dialect) -> str:
    """The row of a model, as the text of a query without parameters."""
    starts = {f"start_{place}": start for place, (_, start) in enumerate(parts) if start is not None}

    def build(spec: SignalSpec) -> Select[Any]:
        own = [(replace(part, spec=spec), start) for part, start in parts]
        given = [placeholder(f"start_{place}") for place in range(len(parts))]
        return _select(placeholder("number"), own, dialect, given)

    variant = tuple(part.variant for part, _ in parts)
    return filled(parts[0][0].spec, dialect, variant, build, number=number, **starts)


def _select(
    number: int | ColumnElement[Any],
    parts: Sequence[_Part],
    dialect: Dialect,
    starts: Sequence[ColumnElement[Any] | None],
) -> Select[Any]:
    columns = [
        column
        for (part, _), start in zip(parts, starts, strict=True)
        for column in part.columns(dialect, null() if start is None else start)
    ]
    named = [column.label(f"c{place}") for place, column in enumerate(columns)]
    first: ColumnElement[Any] = literal_column(str(number)) if isinstance(number, int) else number
    return select(first.label("model"), *named)
