"""What there is to send, and how much of it: one statement looks at all models of a database, and changes nothing.

A relay looks once a second for as long as it lives, and making such a statement takes longer than its answer. So it is
made once, and made anew only when something else is asked; where scans begin is a parameter of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from sqlalchemy import BigInteger, BindParameter, bindparam, func, literal, null, select
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ColumnElement, Select

from .contract import SignalSpec
from .keys import is_from
from .parked import LeaveOut, count_columns, is_due, leaving_out
from .paused import pause_column
from .statements import EVERYTHING, Choice, pending

#: So many statements are kept. A relay asks each of its databases three questions, and now and then a variant of one.
KEPT_STATEMENTS = 32


@dataclass(frozen=True)
class Work:
    """What there is to do for a model.

    :param pending: there are signals to send.
    :param due: there are signals that were set aside and whose next try has come.
    :param paused: why the model is paused, empty when nobody said why; None when it is not paused.
    :param lowest: the lowest key of those to send, where the choice says from which key on.
    """

    spec: SignalSpec
    pending: bool
    due: bool
    paused: str | None = None
    lowest: int | None = None


@dataclass(frozen=True)
class Measurement:
    """How much a model has pending.

    :param backlog: the number of signals; counting stops at a limit.
    :param head: the lowest key of those that are not parked, as text; None when there is none. It tells whether the
      oldest signal has changed.
    :param age_seconds: for how long that one has been written, by the clock of the database; None when its model has
      no time of writing.
    :param waiting: how many signals are set aside until their next try.
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
    """Tell by one statement what there is to do for each of the models.

    :param specs: models of one database.
    :param choices: for names of models, which signals count.
    :param has_paused_table: whether the table of paused models is there to be read.
    """
    finds = _finds(specs, choices, has_paused_table)
    answers = _ask(connection, [(find,) for find in finds], [(start,) for start in _starts(finds, choices)])
    return [find.answer(values) for find, values in zip(finds, answers, strict=True)]


def measure(
    connection: Connection,
    specs: Sequence[SignalSpec],
    most: int | None,
    *,
    has_parked_table: bool = False,
    starts: Mapping[str, int | None] | None = None,
) -> list[Measurement]:
    """Measure the models by one statement.

    :param specs: models of one database.
    :param most: stop counting at so many signals of a model; never when None.
    :param has_parked_table: whether the table of signals that are set aside is there to be read.
    :param starts: for names of models with a single integer key, from which key on; None for all keys.
    """
    starts = starts or {}
    measures = _measures(specs, most, has_parked_table, starts)
    answers = _ask(connection, [(one,) for one in measures], [(starts.get(spec.name),) for spec in specs])
    return [Measurement(*values) for values in answers]


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
    """Both of the above by one statement."""
    starts = starts or {}
    finds = _finds(specs, choices, has_paused_table)
    measures = _measures(specs, most, has_parked_table, starts)
    given = zip(_starts(finds, choices), (starts.get(spec.name) for spec in specs), strict=True)
    answers = _ask(connection, list(zip(finds, measures, strict=True)), list(given))
    return [
        (find.answer(values[: _Find.width]), Measurement(*values[_Find.width :]))
        for find, values in zip(finds, answers, strict=True)
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
    """What is asked of a model to find work: all that the text of its columns depends on.

    :param choice: without the key to begin at.
    """

    width = 3

    spec: SignalSpec
    choice: Choice
    has_start: bool
    has_paused_table: bool

    @classmethod
    def of(cls, spec: SignalSpec, choice: Choice, has_paused_table: bool) -> _Find:
        has_start = choice.start is not None and choice.only is None
        return cls(spec, replace(choice, start=None), has_start, has_paused_table)

    def columns(self, dialect: Dialect, start: BindParameter[int]) -> list[ColumnElement[Any]]:
        return [
            self._found(dialect, start),
            literal(False) if self.choice.leave_out is LeaveOut.NOTHING else is_due(self.spec),
            pause_column(self.spec) if self.has_paused_table else null(),
        ]

    def _found(self, dialect: Dialect, start: BindParameter[int]) -> ColumnElement[Any]:
        spec = self.spec
        if not self.has_start:
            return pending(spec, dialect, self.choice, select(literal(1)).select_from(spec.model)).exists()
        keys = select(*spec.primary_key).select_from(spec.model).where(is_from(spec, start))
        lowest = keys.order_by(*spec.primary_key).limit(1)
        return pending(spec, dialect, self.choice, lowest).scalar_subquery()

    def answer(self, values: Sequence[Any]) -> Work:
        found, is_due, paused = values
        if not self.has_start:
            return Work(self.spec, bool(found), bool(is_due), paused)
        return Work(self.spec, found is not None, bool(is_due), paused, found)


@dataclass(frozen=True)
class _Measure:
    """What is asked of a model to measure it."""

    width = 5

    spec: SignalSpec
    most: int | None
    has_parked_table: bool
    has_start: bool

    def columns(self, dialect: Dialect, start: BindParameter[int]) -> list[ColumnElement[Any]]:
        spec = self.spec
        keys = select(*spec.primary_key).select_from(spec.model).where(*spec.is_signal)
        if self.has_start:
            # In order, so that PostgreSQL begins there as well, instead of reading what is dead before.
            keys = keys.where(is_from(spec, start)).order_by(*spec.primary_key)
        counted = keys.limit(self.most).subquery()
        # The lag is that of the lowest key: the least time of writing would be found by reading the whole table.
        first = keys.order_by(None).order_by(*spec.primary_key).limit(1)
        first = leaving_out(spec, LeaveOut.PARKED if self.has_parked_table else LeaveOut.NOTHING, first)
        head = first.subquery()
        return [
            select(func.count()).select_from(counted).scalar_subquery(),
            select(func.concat_ws(",", *head.c)).scalar_subquery(),
            _age_seconds(spec, dialect, first),
            *(count if self.has_parked_table else literal(0) for count in count_columns(spec)),
        ]


def _age_seconds(spec: SignalSpec, dialect: Dialect, first: Select[Any]) -> ColumnElement[Any]:
    if spec.written_at is None or dialect.name != "postgresql":
        return null()
    written_at = first.with_only_columns(spec.mapper.columns[spec.written_at]).scalar_subquery()
    # By the clock of the server alone: that of the relay may differ.
    return func.date_part("epoch", func.clock_timestamp() - written_at)


#: What one statement asks of one model.
_Asked = tuple[_Find | _Measure, ...]


def _ask(
    connection: Connection, asked: Sequence[_Asked], starts: Sequence[tuple[int | None, ...]]
) -> list[Sequence[Any]]:
    """Ask for the columns of all models by one statement; return each model's own.

    :param starts: for what is asked of each model, the key to begin at.
    """
    statement = _statement(tuple(asked), connection.dialect)
    flat = enumerate(chain.from_iterable(starts))
    given = {_start_name(number): start for number, start in flat if start is not None}
    values = iter(connection.execute(statement, given).one())
    return [list(islice(values, sum(question.width for question in questions))) for questions in asked]


@lru_cache(KEPT_STATEMENTS)
def _statement(asked: tuple[_Asked, ...], dialect: Dialect) -> Select[Any]:
    columns: list[ColumnElement[Any]] = []
    for number, question in enumerate(chain.from_iterable(asked)):
        columns += question.columns(dialect, bindparam(_start_name(number), type_=BigInteger))
    return select(*(column.label(f"c{number}") for number, column in enumerate(columns)))


def _start_name(number: int) -> str:
    return f"signalbus_start_{number}"
