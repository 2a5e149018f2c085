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
    ARRAY,
    CursorResult,
    Interval,
    Text,
    and_,
    any_,
    bindparam,
    exists,
    func,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, SQLAlchemyError
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
    keys = select(table.c.key).where(table.c.table_name == spec.table.fullname)
    if leave_out is LeaveOut.PARKED:
        keys = keys.where(table.c.next_try_at.is_(None))
    # NOT IN on purpose: PostgreSQL reads the keys once into a hash table and filters by it, and the scan goes on in the
    # order of the key. Written as NOT EXISTS it may become a join that sorts the whole outbox first.
    return statement.where(text_of_key(spec).not_in(keys))


def is_due(spec: SignalSpec) -> ColumnElement[bool]:
    """The condition that some signal of the model waits for a try whose time has come."""
    table = parked_table_of(spec)
    return exists().where(table.c.table_name == spec.table.fullname, table.c.next_try_at <= func.now())


def due_signals(connection: Connection, spec: SignalSpec, limit: int) -> list[tuple[Key, str]]:
    """The keys of signals whose next try has come, longest overdue first, each with its error class."""
    table = parked_table_of(spec)
    rows = connection.execute(
        select(table.c.key, table.c.error_class)
        .where(table.c.table_name == spec.table.fullname, table.c.next_try_at <= func.now())
        .order_by(table.c.next_try_at)
        .limit(limit)
    ).all()
    keys = _keys_of(connection, spec, [text for text, _ in rows])
    return [(keys[text], error_class) for text, error_class in rows if text in keys]


def _keys_of(connection: Connection, spec: SignalSpec, texts: Sequence[str]) -> dict[str, Key]:
    """The keys that these texts stand for. A text that is none, since the table has another key now, is left out."""
    if not texts:
        return {}
    given = func.unnest(bindparam("texts", list(texts), type_=ARRAY(Text))).column_valued("given")
    statement = select(given, *key_from_text(spec, given))
    try:
        with connection.begin_nested():
            return {row[0]: tuple(row[1:]) for row in connection.execute(statement)}
    except DataError:
        if len(texts) == 1:
            return {}
    half = len(texts) // 2
    return _keys_of(connection, spec, texts[:half]) | _keys_of(connection, spec, texts[half:])


@dataclass(frozen=True)
class Noted:
    """What is noted of a signal so far.

    :param text: its key as text.
    :param attempts: 0 when it has not failed before.
    :param error_class: of the last failure; empty when there was none.
    """

    text: str
    attempts: int
    error_class: str


def noted_so_far(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> dict[Key, Noted]:
    """What is noted of those of the signals that are still in their table."""
    table = parked_table_of(spec)
    key_text = text_of_key(spec)
    same = and_(table.c.table_name == spec.table.fullname, table.c.key == key_text)
    rows = connection.execute(
        select(key_text, func.coalesce(table.c.attempts, 0), func.coalesce(table.c.error_class, ""), *spec.primary_key)
        .select_from(spec.table.outerjoin(table, same))
        .where(has_key(spec, connection.dialect, keys))
    )
    return {tuple(row[3:]): Noted(*row[:3]) for row in rows}


def set_aside(
    connection: Connection, spec: SignalSpec, failures: Sequence[Failure], noted: Mapping[Key, Noted]
) -> None:
    """Note failures, new ones and further ones.

    :param noted: from :func:`noted_so_far`.
    """
    table = parked_table_of(spec)
    statement = insert(table).values(
        table_name=spec.table.fullname,
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
    renewed = ("model", "attempts", "last_failed_at", "next_try_at", "error_class", "error_text")
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.table_name, table.c.key], set_={name: statement.excluded[name] for name in renewed}
    )
    connection.execute(
        statement,
        [
            {
                "key_text": noted[failure.key].text,
                "number": failure.attempts,
                "wait": None if failure.wait_seconds is None else timedelta(seconds=failure.wait_seconds),
                "class_": failure.error_class,
                "reason": _storable(failure.error_text),
            }
            for failure in failures
        ],
    )


def forget(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> None:
    """Remove what is noted about these signals; to be called while they are still in their table."""
    table = parked_table_of(spec)
    texts = select(text_of_key(spec)).where(has_key(spec, connection.dialect, keys))
    connection.execute(sql_delete(table).where(table.c.table_name == spec.table.fullname, table.c.key.in_(texts)))


def forget_gone(connection: Connection, spec: SignalSpec) -> int:
    """Remove what is noted about signals that are not in their table any more; return how many they were.

    A row that is no signal any more, by the model's condition, is gone too.

    Otherwise a new signal with the key of an old one would be left alone with it.
    """
    table = parked_table_of(spec)
    mine = table.c.table_name == spec.table.fullname
    texts = connection.scalars(select(table.c.key).where(mine)).all()
    keys = list(_keys_of(connection, spec, texts).values())
    there = select(text_of_key(spec)).where(has_key(spec, connection.dialect, keys), *spec.is_signal)
    gone = set(texts) - set(connection.scalars(there) if keys else ())
    if gone:
        listed = bindparam("gone", list(gone), type_=ARRAY(Text))
        connection.execute(sql_delete(table).where(mine, table.c.key == any_(listed)))
    return len(gone)


def count_columns(spec: SignalSpec) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """How many signals of a model wait for their next try, and how many are parked, as columns of a statement."""
    table = parked_table_of(spec)
    counts = select(func.count()).where(table.c.table_name == spec.table.fullname)
    waiting, parked = counts.where(table.c.next_try_at.is_not(None)), counts.where(table.c.next_try_at.is_(None))
    return waiting.scalar_subquery(), parked.scalar_subquery()


def count_set_aside(connection: Connection, spec: SignalSpec) -> tuple[int, int]:
    """How many signals of a model wait for their next try, and how many are parked."""
    waiting, parked = connection.execute(select(*count_columns(spec))).one()
    return waiting, parked


def list_set_aside(
    connection: Connection, spec: SignalSpec, key: str | None = None, limit: int | None = None
) -> list[SetAside]:
    """Signals of a model that are set aside: parked ones first, then by the time of their next try."""
    table = parked_table_of(spec)
    rows = connection.execute(
        select(table)
        .where(*_matching(spec, key))
        .order_by(table.c.next_try_at.asc().nulls_first(), table.c.first_failed_at, table.c.key)
        .limit(limit)
    )
    return [SetAside(**row._mapping) for row in rows]


def try_again(connection: Connection, spec: SignalSpec, key: str | None = None) -> int:
    """Have signals of a model tried at once, parked ones too; return how many."""
    table = parked_table_of(spec)
    updated = connection.execute(sql_update(table).where(*_matching(spec, key)).values(next_try_at=func.now()))
    return cast("CursorResult[Any]", updated).rowcount


def discard(connection: Connection, spec: SignalSpec, text: str) -> dict[str, Any] | None:
    """Delete a signal that is set aside, with what is noted about it.

    It waits for a burst that is just trying the signal; what that has sent is not discarded.

    :param text: the key, as it is noted.
    :returns: the columns of the deleted row; None when the signal is not set aside, or not in its table any more.
    """
    keys = list(_keys_of(connection, spec, [text]).values())
    # In the order in which a burst takes its locks: the signal first, then the note.
    here = and_(has_key(spec, connection.dialect, keys), *spec.is_signal)
    if not keys or connection.execute(select(*spec.primary_key).where(here).with_for_update()).first() is None:
        return None
    table = parked_table_of(spec)
    noted = connection.execute(sql_delete(table).where(*_matching(spec, text)).returning(table.c.key)).first()
    if noted is None:
        return None
    return _delete(connection, spec, here)


def _delete(connection: Connection, spec: SignalSpec, here: ColumnElement[bool]) -> dict[str, Any]:
    """Delete a row, and return its columns: all of them as text where the model cannot take what one of them holds."""
    deleting, columns = sql_delete(spec.table).where(here), spec.table.columns
    try:
        with connection.begin_nested():
            return dict(connection.execute(deleting.returning(*columns)).one()._mapping)
    except SQLAlchemyError:
        raise
    except Exception:  # noqa: BLE001 - the types of the application's columns may raise anything
        texts = [sql_cast(column, Text).label(column.name) for column in columns]
        return dict(connection.execute(deleting.returning(*texts)).one()._mapping)


def _matching(spec: SignalSpec, key: str | None) -> list[ColumnElement[bool]]:
    table = parked_table_of(spec)
    conditions: list[ColumnElement[bool]] = [table.c.table_name == spec.table.fullname]
    if key is not None:
        conditions.append(table.c.key == key)
    return conditions


def _storable(text: str) -> str:
    """A text that PostgreSQL can hold: without NUL, and without what UTF-8 cannot encode."""
    return text.replace("\0", " ").encode(errors="backslashreplace").decode()[:LONGEST_REASON]
