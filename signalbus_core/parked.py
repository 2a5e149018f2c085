"""Signals that are set aside: the SQL that notes them, leaves them out, and finds those that are due.

A signal that is set aside stays in its own table. What is written here only says that bursts leave it alone: until its
next try, or, once it is *parked*, until a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, cast

from sqlalchemy import (
    CursorResult,
    Interval,
    Table,
    Text,
    and_,
    bindparam,
    exists,
    func,
    select,
    tuple_,
)
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement, Select

from .contract import SignalSpec
from .keys import Key, has_key, key_from_text, text_of_key
from .parked_table import SetAside, parked_table_of

#: What remains of a longer reason.
LONGEST_REASON = 1000


class LeaveOut(Enum):
    """Which of the signals that are set aside a burst leaves alone.

    - ``NOTHING``: the table does not count, because it is not there.
    - ``PARKED``: those that wait for a person.
    - ``SET_ASIDE``: these, and those that wait for their next try.
    """

    NOTHING = "nothing"
    PARKED = "parked"
    SET_ASIDE = "set aside"


@dataclass(frozen=True)
class Failure:
    """What is to be noted about a signal that was tried in vain.

    :param wait_seconds: until its next try; None parks it.
    """

    key: Key
    attempts: int
    wait_seconds: float | None
    error_class: str
    error_text: str


def leaving_out(spec: SignalSpec, leave_out: LeaveOut, statement: Select[Any]) -> Select[Any]:
    """Restrict a statement about a model to the signals that are not set aside."""
    if leave_out is LeaveOut.NOTHING:
        return statement
    table = parked_table_of(spec)
    keys = select(table.c.key).where(table.c.model == spec.name)
    if leave_out is LeaveOut.PARKED:
        keys = keys.where(table.c.next_try_at.is_(None))
    # NOT IN on purpose: PostgreSQL reads the keys once into a hash table and filters by it, and the scan goes on in the
    # order of the key. Written as NOT EXISTS it may become a join that sorts the whole outbox first.
    return statement.where(text_of_key(spec).not_in(keys))


def is_due(spec: SignalSpec) -> ColumnElement[bool]:
    """The condition that some signal of the model waits for a try whose time has come."""
    table = parked_table_of(spec)
    return exists().where(table.c.model == spec.name, table.c.next_try_at <= func.now())


def due_signals(connection: Connection, spec: SignalSpec, limit: int) -> list[tuple[Key, str]]:
    """The keys of signals whose next try has come, longest overdue first, each with its error class."""
    table = parked_table_of(spec)
    rows = connection.execute(
        select(table.c.error_class, *key_from_text(spec, table.c.key))
        .where(table.c.model == spec.name, table.c.next_try_at <= func.now())
        .order_by(table.c.next_try_at)
        .limit(limit)
    )
    return [(tuple(row[1:]), row[0]) for row in rows]


def attempts_so_far(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> dict[Key, tuple[str, int, str]]:
    """For those of the signals that are still in their table: the text of the key, the attempts, the last one's class.

    Of a signal that is not set aside there are no attempts, and the class is empty.
    """
    table = parked_table_of(spec)
    key_text = text_of_key(spec)
    rows = connection.execute(
        select(key_text, func.coalesce(table.c.attempts, 0), func.coalesce(table.c.error_class, ""), *spec.primary_key)
        .select_from(
            spec.table.outerjoin(table, and_(table.c.model == spec.name, table.c.key == key_text)),
        )
        .where(has_key(spec, connection.dialect, keys))
    )
    return {tuple(row[3:]): (row[0], row[1], row[2]) for row in rows}


def set_aside(connection: Connection, spec: SignalSpec, failures: Sequence[Failure], texts: Mapping[Key, str]) -> None:
    """Note failures, new ones and further ones.

    :param texts: the text of each key, from :func:`attempts_so_far`.
    """
    table = parked_table_of(spec)
    statement = insert(table).values(
        model=spec.name,
        key=bindparam("key_text"),
        attempts=bindparam("number"),
        first_failed_at=func.now(),
        last_failed_at=func.now(),
        # The database's clock, because all replicas go by it. No wait, no next try.
        next_try_at=func.now() + bindparam("wait", type_=Interval()),
        error_class=bindparam("class_"),
        error_text=bindparam("reason"),
    )
    renewed = ("attempts", "last_failed_at", "next_try_at", "error_class", "error_text")
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.model, table.c.key], set_={name: statement.excluded[name] for name in renewed}
    )
    connection.execute(
        statement,
        [
            {
                "key_text": texts[failure.key],
                "number": failure.attempts,
                "wait": None if failure.wait_seconds is None else timedelta(seconds=failure.wait_seconds),
                "class_": failure.error_class,
                # PostgreSQL's text cannot hold a NUL.
                "reason": failure.error_text.replace("\0", " ")[:LONGEST_REASON],
            }
            for failure in failures
        ],
    )


def forget(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> None:
    """Remove what is noted about these signals; to be called while they are still in their table."""
    table = parked_table_of(spec)
    texts = select(text_of_key(spec)).where(has_key(spec, connection.dialect, keys))
    connection.execute(sql_delete(table).where(table.c.model == spec.name, table.c.key.in_(texts)))


def forget_gone(connection: Connection, spec: SignalSpec) -> int:
    """Remove what is noted about signals that are not in their table any more; return how many they were.

    Otherwise a new signal with the key of an old one would be left alone with it.
    """
    table = parked_table_of(spec)
    same = tuple_(*spec.primary_key) == tuple_(*key_from_text(spec, table.c.key))
    gone = ~exists().where(same).select_from(spec.table).correlate(table)
    deleted = connection.execute(sql_delete(table).where(table.c.model == spec.name, gone))
    return cast("CursorResult[Any]", deleted).rowcount


def count_columns(spec: SignalSpec) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """How many signals of a model wait for their next try, and how many are parked, as columns of a statement."""
    table = parked_table_of(spec)
    counts = select(func.count()).where(table.c.model == spec.name)
    waiting, parked = counts.where(table.c.next_try_at.is_not(None)), counts.where(table.c.next_try_at.is_(None))
    return waiting.scalar_subquery(), parked.scalar_subquery()


def count_set_aside(connection: Connection, spec: SignalSpec) -> tuple[int, int]:
    """How many signals of a model wait for their next try, and how many are parked."""
    waiting, parked = connection.execute(select(*count_columns(spec))).one()
    return waiting, parked


def list_set_aside(
    connection: Connection, table: Table, model: str | None = None, key: str | None = None, limit: int | None = None
) -> list[SetAside]:
    """Signals that are set aside: parked ones first, then by the time of their next try."""
    rows = connection.execute(
        select(table)
        .where(*_matching(table, model, key))
        .order_by(table.c.next_try_at.asc().nulls_first(), table.c.model, table.c.first_failed_at, table.c.key)
        .limit(limit)
    )
    return [SetAside(**row._mapping) for row in rows]


def try_again(connection: Connection, table: Table, model: str | None = None, key: str | None = None) -> int:
    """Have signals tried at once, parked ones too; return how many."""
    updated = connection.execute(sql_update(table).where(*_matching(table, model, key)).values(next_try_at=func.now()))
    return cast("CursorResult[Any]", updated).rowcount


def discard(connection: Connection, spec: SignalSpec, key: str) -> dict[str, Any] | None:
    """Delete a signal that is set aside, with what is noted about it.

    It waits for a burst that is just trying the signal.

    :returns: the columns of the deleted row; None when the signal is not set aside, or was not in its table any more.
    """
    table = parked_table_of(spec)
    noted = sql_delete(table).where(table.c.model == spec.name, table.c.key == key).returning(table.c.key)
    if connection.scalar(noted) is None:
        return None
    mine = tuple_(*spec.primary_key) == tuple_(*key_from_text(spec, bindparam("key", key, type_=Text())))
    row = connection.execute(sql_delete(spec.table).where(mine).returning(*spec.table.columns)).one_or_none()
    return None if row is None else dict(row._mapping)


def _matching(table: Table, model: str | None, key: str | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if model is not None:
        conditions.append(table.c.model == model)
    if key is not None:
        conditions.append(table.c.key == key)
    return conditions
