"""Failed signals in the SQL of other queries: which of them a burst skips, which are due, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from sqlalchemy import ColumnClause, Text, column, exists, func, literal_column, not_, null, or_, select, true, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.sql import ColumnElement, Select

from ...model.contract import SignalSpec
from ...schema.own_tables import SKIPPED, UNDELETED, parked_table_of
from ..keys import text_of_key


class LeaveOut(Enum):
    """Which of the failed signals a burst skips.

    - ``NOTHING``: none, because there is no retry store.
    - ``PARKED``: parked signals, and those that were sent and only have to be deleted.
    - ``FAILED``: these, and waiting signals.
    """

    NOTHING = "nothing"
    PARKED = "parked"
    FAILED = "failed"


def row_version(spec: SignalSpec) -> ColumnElement[str]:
    """The transaction that wrote the present version of a row (``xmin``): locking or freezing does not change it."""
    # https://www.postgresql.org/docs/current/ddl-system-columns.html
    xmin: ColumnClause[Any] = column("xmin")
    xmin.table = spec.table
    return sql_cast(xmin, Text)


def leaving_out(spec: SignalSpec, leave_out: LeaveOut, statement: Select[Any]) -> Select[Any]:
    """Restrict a statement about a model to the signals that are not excluded as failed."""
    table = parked_table_of(spec)
    which = [or_(table.c.next_try_at.is_(None), table.c.error_class == UNDELETED)]
    return statement.where(*_without(spec, leave_out, [] if leave_out is LeaveOut.FAILED else which))


def not_passed_over(spec: SignalSpec, leave_out: LeaveOut, *, skips_parked: bool) -> list[ColumnElement[bool]]:
    """The conditions that a signal, if it has failed, holds back the later ones of its key.

    One that was sent and only has to be deleted does not, nor one that a person has let be skipped.

    :param skips_parked: nor does any that is parked.
    """
    return _without(spec, leave_out, [_is_passed_over(spec, skips_parked=skips_parked)])


def _is_passed_over(spec: SignalSpec, *, skips_parked: bool) -> ColumnElement[bool]:
    table = parked_table_of(spec)
    which: ColumnElement[bool] = table.c.error_class.in_((UNDELETED, SKIPPED))
    return or_(which, table.c.next_try_at.is_(None)) if skips_parked else which


def count_blocking(spec: SignalSpec) -> ColumnElement[int]:
    """How many failed signals of an ordered model hold back the later ones of their key, as a column of a query."""
    assert spec.order is not None
    table = parked_table_of(spec)
    counts = select(func.count()).where(table.c.table_name == spec.table.fullname)
    return counts.where(not_(_is_passed_over(spec, skips_parked=spec.order.skips_parked))).scalar_subquery()


def _without(spec: SignalSpec, leave_out: LeaveOut, which: Sequence[ColumnElement[bool]]) -> list[ColumnElement[bool]]:
    """The conditions that a signal has none of these records."""
    if leave_out is LeaveOut.NOTHING:
        return []
    table = parked_table_of(spec)
    # If the table lacks the column row_version, the name resolves to that of this subquery, which is NULL.
    without = select(sql_cast(null(), Text).label("row_version")).subquery("signalbus_without")
    version: ColumnElement[str] = literal_column("row_version", Text)
    own = select(table.c.key, version.label("version")).where(table.c.table_name == spec.table.fullname, *which)
    records = own.lateral("signalbus_failed")
    keys = select(records.c.key).select_from(without.join(records, true()))
    key = text_of_key(spec)
    # NOT IN on purpose: PostgreSQL reads the records once into a hash table (hashed SubPlan), and the scan stays in the
    # order of the key. NOT EXISTS may become a join that sorts the whole outbox first. Records with and without a row
    # version are separate subqueries, because a NULL among the hashed values would be compared with every row.
    return [
        key.not_in(keys.where(records.c.version.is_(None))),
        tuple_(key, row_version(spec)).not_in(
            keys.add_columns(records.c.version).where(records.c.version.is_not(None))
        ),
    ]


def is_due(spec: SignalSpec) -> ColumnElement[bool]:
    """The condition that the next try of some waiting signal of the model is due."""
    table = parked_table_of(spec)
    return exists().where(table.c.table_name == spec.table.fullname, table.c.next_try_at <= func.now())


def count_columns(spec: SignalSpec) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """How many signals of a model are waiting, and how many are parked, as columns of a query."""
    table = parked_table_of(spec)
    counts = select(func.count()).where(table.c.table_name == spec.table.fullname)
    waiting, parked = counts.where(table.c.next_try_at.is_not(None)), counts.where(table.c.next_try_at.is_(None))
    return waiting.scalar_subquery(), parked.scalar_subquery()
