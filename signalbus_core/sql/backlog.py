"""The queries of a poll: what there is to send, and how much. One query covers many models, and changes nothing.

A relay polls every second, and building such a query takes longer than running it. So queries are cached, and rebuilt
only when their columns change; the start key of each scan is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, count, islice
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Double,
    Float,
    Text,
    bindparam,
    extract,
    func,
    literal,
    literal_column,
    null,
    select,
    text,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ColumnElement, CompoundSelect, Select

from ..model.contract import SignalSpec
from .keys import is_from
from .parked import LeaveOut, count_columns, is_due, leaving_out
from .paused import pause_column
from .selection import EVERYTHING, Choice, all_keys, pending

#: So many queries are cached. A relay has three for each hundred models, and sometimes a variant of one.
KEPT_STATEMENTS = 128

#: One query covers so many models. More: fewer round trips; less: each is planned, and times out, sooner.
MODELS_PER_STATEMENT = 100


@dataclass(frozen=True)
class Work:
    """The work that a poll found for a model.

    :param pending: there are signals to send.
    :param due: there are waiting signals whose next try is due.
    :param paused: why the model is paused, empty when no reason was given; None when it is not paused.
    :param lowest: the lowest key of those to send, where the choice has a start key.
    """

    spec: SignalSpec
    pending: bool
    due: bool
    paused: str | None = None
    lowest: int | None = None


@dataclass(frozen=True)
class Measurement:
    """The backlog of a model.

    :param backlog: the number of signals; counting stops at a limit.
    :param head: the lowest key of those that are not parked, as text; None when there is none. It shows whether the
      oldest signal has changed.
    :param age_seconds: the age of that signal, by the clock of the database; None when its model has no time of
      writing.
    :param waiting: how many signals wait for their next try.
    :param parked: how many signals are parked.
    """

    backlog: int
    head: str | None
    age_seconds: float | None = None
    waiting: int = 0
    parked: int = 0


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
    finds = _finds(specs, choices, has_paused_table)
    answers = _ask(connection, [(find,) for find in finds], [(start,) for start in _starts(finds, choices)])
    return [find.answer(values) for find, [values] in zip(finds, answers, strict=True)]


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
    starts = starts or {}
    measures = _measures(specs, most, has_parked_table, starts)
    answers = _ask(connection, [(one,) for one in measures], [(starts.get(spec.name),) for spec in specs])
    return [one.answer(values) for one, [values] in zip(measures, answers, strict=True)]


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
    starts = starts or {}
    finds = _finds(specs, choices, has_paused_table)
    measures = _measures(specs, most, has_parked_table, starts)
    given = zip(_starts(finds, choices), (starts.get(spec.name) for spec in specs), strict=True)
    answers = _ask(connection, list(zip(finds, measures, strict=True)), list(given))
    return [
        (find.answer(found), one.answer(measured))
        for find, one, [found, measured] in zip(finds, measures, answers, strict=True)
    ]


def _finds(specs: Sequence[SignalSpec], choices: Mapping[str, Choice], has_paused_table: bool) -> list[_Find]:
    return [_Find.of(spec, choices.get(spec.name, EVERYTHING), has_paused_table) for spec in specs]


def _measures(
    specs: Sequence[SignalSpec], most: int | None, has_parked_table: bool, starts: Mapping[str, int | None]
) -> list[_Measure]:
    return [_Measure(spec, most, has_parked_table, starts.get(spec.name) is not None) for spec in specs]


def _starts(finds: Sequence[_Find], choices: Mapping[str, Choice]) -> list[int | None]:
    return [choices[find.spec.name].start if find.has_start else None for find in finds]


@dataclass(frozen=True)
class _Find:
    """How to find the work of a model: everything that the SQL of its columns depends on.

    :param choice: without its start key.
    """

    width = 4

    spec: SignalSpec
    choice: Choice
    has_start: bool
    has_paused_table: bool

    @classmethod
    def of(cls, spec: SignalSpec, choice: Choice, has_paused_table: bool) -> _Find:
        has_start = choice.start is not None and choice.only is None
        return cls(spec, replace(choice, start=None), has_start, has_paused_table)

    def columns(self, dialect: Dialect, start: BindParameter[int]) -> list[ColumnElement[Any]]:
        found, lowest = self._found(dialect, start)
        return [
            sql_cast(found, Boolean),
            sql_cast(lowest, BigInteger),
            literal_column("false") if self.choice.leave_out is LeaveOut.NOTHING else is_due(self.spec),
            sql_cast(pause_column(self.spec) if self.has_paused_table else null(), Text),
        ]

    def _found(self, dialect: Dialect, start: BindParameter[int]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """Whether there is a signal, and the lowest key, each where it is wanted."""
        spec = self.spec
        if not self.has_start:
            return pending(spec, dialect, self.choice, select(literal(1)).select_from(spec.model)).exists(), null()
        keys = select(*spec.primary_key).select_from(spec.model).where(is_from(spec, start))
        lowest = keys.order_by(*spec.primary_key).limit(1)
        return null(), pending(spec, dialect, self.choice, lowest).scalar_subquery()

    def answer(self, values: Sequence[Any]) -> Work:
        found, lowest, is_due, paused = values
        return Work(self.spec, bool(found) or lowest is not None, bool(is_due), paused, lowest)


@dataclass(frozen=True)
class _Measure:
    """How to measure a model: everything that the SQL of its columns depends on."""

    width = 5

    spec: SignalSpec
    most: int | None
    has_parked_table: bool
    has_start: bool

    def columns(self, dialect: Dialect, start: BindParameter[int]) -> list[ColumnElement[Any]]:
        spec = self.spec
        keys = all_keys(spec)
        if self.has_start:
            # ORDER BY the key, so that PostgreSQL uses the index from there, and reads no dead rows before.
            keys = keys.where(is_from(spec, start)).order_by(*spec.primary_key)
        counted = keys.limit(self.most).subquery()
        # The lag is the age of the lowest key: the minimum time of writing would need a scan of the whole table.
        first = keys.order_by(None).order_by(*spec.primary_key).limit(1)
        first = leaving_out(spec, LeaveOut.PARKED if self.has_parked_table else LeaveOut.NOTHING, first)
        head = first.subquery()
        return [
            select(func.count()).select_from(counted).scalar_subquery(),
            sql_cast(select(func.concat_ws(",", *head.c)).scalar_subquery(), Text),
            sql_cast(_age_seconds(spec, dialect, first), Double),
            *(count if self.has_parked_table else sql_cast(null(), BigInteger) for count in count_columns(spec)),
        ]

    def answer(self, values: Sequence[Any]) -> Measurement:
        backlog, head, age_seconds, waiting, parked = values
        return Measurement(backlog, head, age_seconds, waiting or 0, parked or 0)


def _age_seconds(spec: SignalSpec, dialect: Dialect, first: Select[Any]) -> ColumnElement[Any]:
    if spec.written_at is None or dialect.name != "postgresql":
        return null()
    written_at = first.with_only_columns(spec.mapper.columns[spec.written_at]).scalar_subquery()
    # Only by the clock of the server: that of the relay may differ.
    return func.date_part("epoch", func.clock_timestamp() - written_at)


#: The parts of a query about one model.
_Asked = tuple[_Find | _Measure, ...]


def _ask(
    connection: Connection, asked: Sequence[_Asked], starts: Sequence[tuple[int | None, ...]]
) -> list[list[Sequence[Any]]]:
    """Run the query for all models; return for each model the values of each part.

    :param starts: for each part of each model, the start key.
    """
    answers: list[list[Sequence[Any]]] = []
    for first in range(0, len(asked), MODELS_PER_STATEMENT):
        some = asked[first : first + MODELS_PER_STATEMENT]
        flat = enumerate(chain.from_iterable(starts[first : first + MODELS_PER_STATEMENT]))
        given = {_start_name(number): start for number, start in flat if start is not None}
        rows = connection.execute(_statement(tuple(some), connection.dialect), given)
        # UNION ALL guarantees no order.
        by_number = {row[0]: iter(row[1:]) for row in rows}
        answers += [
            [list(islice(by_number[number], question.width)) for question in questions]
            for number, questions in enumerate(some)
        ]
    return answers


@lru_cache(KEPT_STATEMENTS)
def _statement(asked: tuple[_Asked, ...], dialect: Dialect) -> Select[Any] | CompoundSelect[Any]:
    """A query with a row for each model: the columns of a thousand models exceed the limit of one row.

    https://www.postgresql.org/docs/current/limits.html
    """
    numbers = count()
    rows = []
    for model, questions in enumerate(asked):
        columns = [
            column
            for question in questions
            for column in question.columns(dialect, bindparam(_start_name(next(numbers)), type_=BigInteger))
        ]
        named = [column.label(f"c{number}") for number, column in enumerate(columns)]
        rows.append(select(literal_column(str(model)).label("model"), *named))
    return union_all(*rows) if len(rows) > 1 else rows[0]


def _start_name(number: int) -> str:
    return f"signalbus_start_{number}"


def oldest_age_seconds(connection: Connection, spec: SignalSpec, most: int | None) -> float | None:
    """The age in seconds of a model's oldest signal; None when there is none, or its age is unknown.

    :param most: read only so many signals, those with the lowest keys; all when None.
    """
    moment = written_at_column(connection, spec)
    if moment is None:
        return None
    first = select(moment.label("moment")).select_from(spec.model).where(*spec.is_signal)
    looked_at = (first if most is None else first.order_by(*spec.primary_key).limit(most)).subquery()
    age = func.clock_timestamp() - func.min(looked_at.c.moment)
    seconds = connection.scalar(select(sql_cast(extract("epoch", age), Float)))
    return None if seconds is None else max(0.0, seconds)


def written_at_column(connection: Connection, spec: SignalSpec) -> ColumnElement[Any] | None:
    """When a signal was written, as a column of a query on its model; None when that is unknown.

    https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-TRACK-COMMIT-TIMESTAMP
    """
    if spec.written_at is not None:
        return cast("ColumnElement[Any]", spec.mapper.columns[spec.written_at])
    if connection.dialect.name != "postgresql":
        return None
    keeps_times = text("SELECT CAST(current_setting('track_commit_timestamp') AS bool)")
    return func.pg_xact_commit_timestamp(literal_column("xmin")) if connection.scalar(keeps_times) else None
