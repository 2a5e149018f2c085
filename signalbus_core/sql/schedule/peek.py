"""Whether signals of a model have become due, and when the next one will be: two reads of the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, DateTime, Double, func, literal, literal_column, null, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement, Select

from ...model.contract import SignalSpec
from ...model.schedule import has_zone
from ..parked import LeaveOut, leaving_out
from .conditions import Part, is_divided, is_future, may_be_sent, order_of


@dataclass(frozen=True)
class Peek:
    """What a burst knows of the schedule before it takes signals.

    :param has_due: there is a signal whose time has come, and that is not left out.
    :param next_seconds: until the next one is due, by the clock of the database; None when there is none.
    """

    has_due: bool
    next_seconds: float | None


def peek(session: Session, spec: SignalSpec, leave_out: LeaveOut, options: Mapping[str, str]) -> Peek:
    """Ask for a model whose bursts take the parts one after the other.

    :param leave_out: which of the failed signals the burst skips.
    :param options: execution options of the statement.
    """
    dialect = session.get_bind(spec.mapper).dialect
    statement, by = _statement(spec, dialect, leave_out), {"mapper": spec.mapper}
    row = session.execute(statement, execution_options=options, bind_arguments=by).one()
    return Peek(bool(row[0]), row[1])


@lru_cache(1024)
def _statement(spec: SignalSpec, dialect: Dialect, leave_out: LeaveOut) -> Select[Any]:
    due = select(literal(1)).select_from(spec.table).where(*spec.is_signal, *may_be_sent(spec, Part.DUE))
    return select(any_in_order(spec, Part.DUE, leaving_out(spec, leave_out, due)), next_seconds(spec, dialect))


def any_in_order(spec: SignalSpec, part: Part, statement: Select[Any]) -> ColumnElement[bool]:
    """Whether a statement about a part of a model finds a row, as a column of a query.

    In the order of the part, so that PostgreSQL uses its index: an EXISTS may read all future signals.
    """
    first = statement.order_by(*order_of(spec, part)).limit(1).scalar_subquery()
    return sql_cast(first.is_not(None), Boolean)


def next_seconds(spec: SignalSpec, dialect: Dialect) -> ColumnElement[Any]:
    """How many seconds until the next signal of a model is due, as a column of a query; NULL when that is not known."""
    if not is_divided(spec, dialect):
        return sql_cast(null(), Double)
    assert spec.schedule is not None
    [column] = spec.schedule.columns
    forever = sql_cast(literal_column("'infinity'"), DateTime(timezone=has_zone(column)))
    first = select(column).select_from(spec.table).where(*spec.is_signal, is_future(spec), column < forever)
    moment: ColumnElement[Any] = first.order_by(*order_of(spec, Part.DUE)).limit(1).scalar_subquery()
    if not has_zone(column):
        moment = func.timezone("UTC", moment)
    return sql_cast(func.date_part("epoch", moment - func.clock_timestamp()), Double)


def scheduled_count(spec: SignalSpec, dialect: Dialect, most: int | None) -> ColumnElement[Any]:
    """How many signals of a model are not due yet, as a column of a query; counting stops at ``most``."""
    if spec.schedule is None:
        return sql_cast(literal_column("0"), BigInteger)
    one: ColumnElement[int] = literal_column("1")
    later = select(one.label("one")).select_from(spec.model).where(*spec.is_signal, is_future(spec))
    if is_divided(spec, dialect):
        later = later.order_by(*order_of(spec, Part.DUE))
    return select(func.count()).select_from(later.limit(most).subquery()).scalar_subquery()
