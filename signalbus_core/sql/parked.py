"""The retry store: SQL that records failed signals, excludes them from bursts, lists, retries and discards them.

A failed signal stays in its own table. Its record in the retry store only makes bursts skip it: while it is *waiting*,
until its next try; once it is *parked*, until a person decides.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import Enum
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    ColumnClause,
    CursorResult,
    Interval,
    Text,
    and_,
    any_,
    bindparam,
    column,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError
from sqlalchemy.sql import ColumnElement, Select

from ..errors import Proved
from ..failures import is_away, raise_if_stop
from ..model.contract import SignalSpec
from ..schema.own_tables import UNDELETED, SetAside, lacks_columns, parked_table_of
from .keys import Key, has_integer_key, has_key, key_from_text, text_of_key
from .rows import has_id

logger = logging.getLogger("signalbus")

#: Longer reasons are cut to so many characters.
LONGEST_REASON = 1000


_LOSSY = "parked at once, because the model reads its key as another than it is, and it could not be found again: "


class LeaveOut(Enum):
    """Which of the failed signals a burst skips.

    - ``NOTHING``: none, because there is no retry store.
    - ``PARKED``: parked signals, and those that were sent and only have to be deleted.
    - ``SET_ASIDE``: these, and waiting signals.
    """

    NOTHING = "nothing"
    PARKED = "parked"
    SET_ASIDE = "set aside"


@dataclass(frozen=True)
class Failure:
    """A failure of a signal, to be recorded.

    :param wait_seconds: until its next try; None parks it.
    :param is_of_row: the row that has the key now is the one that is meant; False when nobody can tell.
    """

    key: Key
    attempts: int
    wait_seconds: float | None
    error_class: str
    error_text: str
    destination: str | None = None
    is_of_row: bool = True


def row_version(spec: SignalSpec) -> ColumnElement[str]:
    """The transaction that wrote the present version of a row (``xmin``): locking or freezing does not change it."""
    # https://www.postgresql.org/docs/current/ddl-system-columns.html
    xmin: ColumnClause[Any] = column("xmin")
    xmin.table = spec.table
    return sql_cast(xmin, Text)


def leaving_out(spec: SignalSpec, leave_out: LeaveOut, statement: Select[Any]) -> Select[Any]:
    """Restrict a statement about a model to the signals that are not excluded as failed."""
    if leave_out is LeaveOut.NOTHING:
        return statement
    table = parked_table_of(spec)
    # If the table lacks the column row_version, the name resolves to that of this subquery, which is NULL.
    without = select(sql_cast(null(), Text).label("row_version")).subquery("signalbus_without")
    version: ColumnElement[str] = literal_column("row_version", Text)
    own = select(table.c.key, version.label("version")).where(table.c.table_name == spec.table.fullname)
    if leave_out is LeaveOut.PARKED:
        own = own.where(or_(table.c.next_try_at.is_(None), table.c.error_class == UNDELETED))
    notes = own.lateral("signalbus_noted")
    noted = select(notes.c.key).select_from(without.join(notes, true()))
    key = text_of_key(spec)
    # NOT IN on purpose: PostgreSQL reads the records once into a hash table (hashed SubPlan), and the scan stays in the
    # order of the key. NOT EXISTS may become a join that sorts the whole outbox first. Records with and without a row
    # version are separate subqueries, because a NULL among the hashed values would be compared with every row.
    return statement.where(
        key.not_in(noted.where(notes.c.version.is_(None))),
        tuple_(key, row_version(spec)).not_in(noted.add_columns(notes.c.version).where(notes.c.version.is_not(None))),
    )


def is_due(spec: SignalSpec) -> ColumnElement[bool]:
    """The condition that the next try of some waiting signal of the model is due."""
    table = parked_table_of(spec)
    return exists().where(table.c.table_name == spec.table.fullname, table.c.next_try_at <= func.now())


def undeleted_signals(connection: Connection, spec: SignalSpec, limit: int) -> list[Proved]:
    """Signals that are recorded as sent, but not yet deleted."""
    table = parked_table_of(spec)
    version = null() if lacks_columns(connection, table) else table.c.row_version
    rows = connection.execute(
        select(table.c.key, version)
        .where(table.c.table_name == spec.table.fullname, table.c.error_class == UNDELETED)
        .order_by(table.c.key)
        .limit(limit)
    ).all()
    keys = keys_of(connection, spec, [row[0] for row in rows])
    return [Proved(keys[row[0]], row[1]) for row in rows if row[0] in keys]


def keys_of(connection: Connection, spec: SignalSpec, texts: Sequence[str]) -> dict[str, Key]:
    """The keys for these texts. A text that is no key (the table's key may have changed) is omitted."""
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
    return keys_of(connection, spec, texts[:half]) | keys_of(connection, spec, texts[half:])


@dataclass(frozen=True)
class Noted:
    """The record of a signal in the retry store.

    :param text: its key as text.
    :param version: of its row.
    :param attempts: 0 when it has not failed before.
    :param error_class: of the last failure; empty when there was none.
    :param failing_seconds: since the first failure.
    :param waited_seconds: since the last one; None when there was none.
    :param has_key: its row is found by its key as Python reads it. Else it cannot be tried again, and is parked.
    """

    text: str
    version: str
    attempts: int
    error_class: str
    failing_seconds: float
    waited_seconds: float | None
    has_key: bool = True


def noted_so_far(
    connection: Connection, spec: SignalSpec, keys: Sequence[Key], rows: Sequence[str] = ()
) -> dict[Key, Noted]:
    """What is noted of those of the signals that are still in their table.

    :param rows: the ids of their rows, for those that are not found by their keys.
    """
    noted = _noted_so_far(connection, spec, has_key(spec, connection.dialect, keys))
    if rows and not noted.keys() >= set(keys):
        by_row = _noted_so_far(connection, spec, has_id(rows, spec.table))
        noted = {key: replace(one, has_key=False) for key, one in by_row.items()} | noted
    return noted


def _noted_so_far(connection: Connection, spec: SignalSpec, condition: ColumnElement[bool]) -> dict[Key, Noted]:
    table = parked_table_of(spec)
    key_text = text_of_key(spec)
    same = and_(table.c.table_name == spec.table.fullname, table.c.key == key_text)
    seconds = [
        func.date_part("epoch", func.now() - moment) for moment in (table.c.first_failed_at, table.c.last_failed_at)
    ]
    rows = connection.execute(
        select(
            key_text,
            row_version(spec),
            func.coalesce(table.c.attempts, 0),
            func.coalesce(table.c.error_class, ""),
            func.coalesce(seconds[0], 0.0),
            seconds[1],
            *spec.primary_key,
        )
        .select_from(spec.table.outerjoin(table, same))
        .where(condition)
    )
    return {tuple(row[6:]): Noted(*row[:6]) for row in rows}


def row_versions(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> dict[Key, str]:
    """The row version of each of these signals that is still in its table, locked or not."""
    rows = connection.execute(
        select(row_version(spec), *spec.primary_key).where(has_key(spec, connection.dialect, keys))
    )
    return {tuple(row[1:]): row[0] for row in rows}


def set_aside(
    connection: Connection, spec: SignalSpec, failures: Sequence[Failure], noted: Mapping[Key, Noted]
) -> None:
    """Record failures: first ones and repeated ones.

    :param noted: from :func:`noted_so_far`.
    """
    table = parked_table_of(spec)
    is_old = lacks_columns(connection, table)
    values: dict[str, Any] = {
        "table_name": spec.table.fullname,
        "model": spec.name,
        "key": bindparam("key_text"),
        "attempts": bindparam("number"),
        "first_failed_at": func.now(),
        "last_failed_at": func.now(),
        # By the database's clock, which all replicas share. Without a wait there is no next try.
        "next_try_at": func.now() + bindparam("wait", type_=Interval()),
        "error_class": bindparam("class_"),
        "error_text": bindparam("reason"),
    }
    if not is_old:
        values |= {"row_version": bindparam("version"), "destination": bindparam("of")}
    statement = insert(table).values(**values)
    kept = ("table_name", "key", "first_failed_at")
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.table_name, table.c.key],
        set_={name: statement.excluded[name] for name in values if name not in kept},
    )
    connection.execute(
        statement,
        [
            {
                "key_text": noted[failure.key].text,
                "number": failure.attempts,
                "wait": _wait(failure, noted[failure.key]),
                "class_": failure.error_class,
                "reason": _storable(failure.error_text if noted[failure.key].has_key else _LOSSY + failure.error_text),
            }
            | (
                {}
                if is_old
                else {
                    "version": noted[failure.key].version if failure.is_of_row else None,
                    "of": _text_or_none(failure.destination),
                }
            )
            for failure in failures
        ],
    )


def _wait(failure: Failure, noted: Noted) -> timedelta | None:
    is_parked = failure.wait_seconds is None or not noted.has_key
    return None if is_parked else timedelta(seconds=failure.wait_seconds or 0.0)


def _text_or_none(text: str | None) -> str | None:
    return None if text is None else _storable(text)


def forget(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> None:
    """Delete the records of these signals; to be called while the signals are still in their table.

    A record never blocks its signal: one that is locked, or cannot be deleted, stays. :func:`forget_gone` deletes it
    once the signal is gone.
    """
    table = parked_table_of(spec)
    texts = select(text_of_key(spec)).where(has_key(spec, connection.dialect, keys))
    mine = table.c.table_name == spec.table.fullname
    free = select(table.c.key).where(mine, table.c.key.in_(texts)).with_for_update(skip_locked=True)
    try:
        with connection.begin_nested():
            connection.execute(sql_delete(table).where(mine, table.c.key == any_(func.array(free.scalar_subquery()))))
    except DBAPIError as error:
        if is_away(error):
            raise
        logger.debug("What is noted of sent signals of %s cannot be removed.", spec.name, exc_info=True)


def forget_gone(connection: Connection, spec: SignalSpec) -> int:
    """Delete the records of rows that are no longer in their table, or have another version; return how many.

    A row that is no longer a signal, by the model's condition, is gone too.

    Otherwise a new signal with the key of an old one would be left alone with it. A note that was written before notes
    had the version of their row gets the one that the row has now, unless it says that the row was sent: the row may be
    a signal that was not.
    """
    table = parked_table_of(spec)
    is_old = lacks_columns(connection, table)
    mine = table.c.table_name == spec.table.fullname
    version = null() if is_old else table.c.row_version
    notes = connection.execute(select(table.c.key, version, table.c.next_try_at.is_(None)).where(mine)).all()
    noted = {row[0]: row[1] for row in notes}
    keys = list(keys_of(connection, spec, list(noted)).values())
    there = select(text_of_key(spec), row_version(spec)).where(*spec.is_signal)
    by_key = there.where(has_key(spec, connection.dialect, keys))
    found = {row[0]: row[1] for row in connection.execute(by_key)} if keys else {}
    if not has_integer_key(spec) and (rest := [row[0] for row in notes if row[2] and row[0] not in found]):
        # Of parked ones the model may read the key as another than it is.
        by_text = there.where(text_of_key(spec) == any_(bindparam("rest", rest, type_=ARRAY(Text))))
        found |= {row[0]: row[1] for row in connection.execute(by_text)}
    gone = [text for text, before in noted.items() if found.get(text, "") != (before or found.get(text))]
    if gone:
        listed = bindparam("gone", gone, type_=ARRAY(Text))
        connection.execute(sql_delete(table).where(mine, table.c.key == any_(listed)))
    unknown = [] if is_old else [text for text, before in noted.items() if before is None and text in found]
    if unknown:
        filling = sql_update(table).where(
            mine,
            table.c.key == bindparam("text"),
            table.c.row_version.is_(None),
            table.c.error_class != UNDELETED,
        )
        connection.execute(
            filling.values(row_version=bindparam("found")), [{"text": text, "found": found[text]} for text in unknown]
        )
    return len(gone)


def count_columns(spec: SignalSpec) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """How many signals of a model are waiting, and how many are parked, as columns of a query."""
    table = parked_table_of(spec)
    counts = select(func.count()).where(table.c.table_name == spec.table.fullname)
    waiting, parked = counts.where(table.c.next_try_at.is_not(None)), counts.where(table.c.next_try_at.is_(None))
    return waiting.scalar_subquery(), parked.scalar_subquery()


def count_set_aside(connection: Connection, spec: SignalSpec) -> tuple[int, int]:
    """How many signals of a model are waiting, and how many are parked."""
    waiting, parked = connection.execute(select(*count_columns(spec))).one()
    return waiting, parked


def list_set_aside(
    connection: Connection, spec: SignalSpec, key: str | None = None, limit: int | None = None
) -> list[SetAside]:
    """The failed signals of a model: parked ones first, then by the time of their next try."""
    table = parked_table_of(spec)
    rows = connection.execute(
        select(*(table.c[field.name] for field in fields(SetAside)))
        .where(*_matching(spec, key))
        .order_by(table.c.next_try_at.asc().nulls_first(), table.c.first_failed_at, table.c.key)
        .limit(limit)
    )
    return [SetAside(**row._mapping) for row in rows]


def notes_of_row(connection: Connection, spec: SignalSpec, key: Key, text: str) -> list[SetAside]:
    """The records of the row that has this key now; when there is none, of the one that had it."""
    noted = list_set_aside(connection, spec, text)
    table = parked_table_of(spec)
    if not noted or lacks_columns(connection, table):
        return noted
    version = connection.scalar(select(table.c.row_version).where(*_matching(spec, text)))
    found = row_versions(connection, spec, [key])
    return noted if version is None or found.get(key, version) == version else []


def try_again(connection: Connection, spec: SignalSpec, key: str | None = None) -> int:
    """Make failed signals of a model due at once, parked ones too; return how many."""
    table = parked_table_of(spec)
    updated = connection.execute(sql_update(table).where(*_matching(spec, key)).values(next_try_at=func.now()))
    return cast("CursorResult[Any]", updated).rowcount


def discard(connection: Connection, spec: SignalSpec, text: str) -> dict[str, Any] | None:
    """Delete a failed signal with its record.

    It waits for a burst that is trying the signal; if that burst sends it, nothing is discarded.

    :param text: the key, as it is noted.
    :returns: the columns of the deleted row; None when the signal is not set aside, or not in its table any more. A row
      that was written anew since is another signal, and stays.
    """
    keys = list(keys_of(connection, spec, [text]).values())
    # In the lock order of a burst, to avoid deadlocks: the signal first, then its record.
    here = and_(has_key(spec, connection.dialect, keys), *spec.is_signal)
    found = connection.execute(select(row_version(spec)).where(here).with_for_update()).first() if keys else None
    if found is None:
        return None
    table = parked_table_of(spec)
    version = null() if lacks_columns(connection, table) else table.c.row_version
    noted = connection.execute(sql_delete(table).where(*_matching(spec, text)).returning(version)).first()
    if noted is None or noted[0] not in (None, found[0]):
        return None
    return _delete(connection, spec, here)


def _delete(connection: Connection, spec: SignalSpec, here: ColumnElement[bool]) -> dict[str, Any]:
    """Delete a row, and return its columns: all as text if the model cannot load one of them."""
    deleting, columns = sql_delete(spec.table).where(here), spec.table.columns
    try:
        with connection.begin_nested():
            return dict(connection.execute(deleting.returning(*columns)).one()._mapping)
    except SQLAlchemyError:
        raise
    except BaseException as error:  # noqa: BLE001 - the types of the application's columns may raise anything
        raise_if_stop(error)
        texts = [sql_cast(column, Text).label(column.name) for column in columns]
        return dict(connection.execute(deleting.returning(*texts)).one()._mapping)


def _matching(spec: SignalSpec, key: str | None) -> list[ColumnElement[bool]]:
    table = parked_table_of(spec)
    conditions: list[ColumnElement[bool]] = [table.c.table_name == spec.table.fullname]
    if key is not None:
        conditions.append(table.c.key == key)
    return conditions


def _storable(text: str) -> str:
    """A text that PostgreSQL can store: without NUL, and without characters that UTF-8 cannot encode."""
    return text.replace("\0", " ").encode(errors="backslashreplace").decode()[:LONGEST_REASON]
