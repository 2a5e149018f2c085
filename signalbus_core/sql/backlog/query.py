"""The queries of a poll: what there is to send, and how much. One query covers many models, and changes nothing.

A relay polls every second, and building such a query takes longer than running it. So its text is put together from
templates, unless keys are its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import BigInteger, literal, literal_column, null, select, union_all
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ColumnElement, Select

from ...model.contract import SignalSpec
from ..selection import EVERYTHING, Choice
from ..templates import filled, placeholder
from .columns import Find, Measure, Measurement, Work

#: One query covers so many models. More: fewer round trips; less: each is planned, and times out, sooner.
MODELS_PER_STATEMENT = 50


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
            (Find(spec, replace(choice, start=None), start is not None, has_paused_table, has_schedule), start)
        )
    return parts


def _measures(
    specs: Sequence[SignalSpec], most: int | None, has_parked_table: bool, starts: Mapping[str, int | None] | None
) -> list[_Part]:
    given = [(spec, (starts or {}).get(spec.name)) for spec in specs]
    has_schedule = any(spec.schedule is not None for spec in specs)
    return [(Measure(spec, most, has_parked_table, start is not None, has_schedule), start) for spec, start in given]


#: A part of the query for a model, and the start key of its scan.
_Part = tuple[Find | Measure, int | None]


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
    return any(isinstance(part, Find) and (part.choice.exclude or part.choice.only is not None) for part, _ in parts)


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
