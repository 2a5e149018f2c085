"""The records of failed signals in the retry store: written, read and deleted by bursts and relays.

A failed signal stays in its own table. Its record only makes bursts skip it: while it is *waiting*, until its next try;
once it is *parked*, until a person decides.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import ARRAY, Interval, Text, and_, any_, bindparam, func, null, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, SQLAlchemyError, StatementError
from sqlalchemy.sql import ColumnElement

from ...errors import Proved
from ...failures import is_away, raise_if_stop
from ...model.contract import SignalSpec
from ...schema.own_tables import UNDELETED, lacks_columns, parked_table_of, storable
from ..keys import Key, SignalRef, has_integer_key, has_key, is_read_exactly, key_from_text, text_of_key
from ..rows import has_id, row_id
from .conditions import row_version

logger = logging.getLogger("signalbus")

_LOSSY = "parked at once, because the model reads its key as another than it is, and it could not be found again: "


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
    except BaseException as error:  # the type of an application's column may raise anything
        raise_if_stop(error)
        if isinstance(error, SQLAlchemyError) and not isinstance(error, DataError):
            raise
    if len(texts) == 1:
        return {}
    half = len(texts) // 2
    return keys_of(connection, spec, texts[:half]) | keys_of(connection, spec, texts[half:])


@dataclass(frozen=True)
class FailureHistory:
    """What the retry store knows of a signal.

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


def failure_histories(
    connection: Connection, spec: SignalSpec, keys: Sequence[Key], rows: Sequence[str] = ()
) -> dict[Key, FailureHistory]:
    """What the retry store knows of those of the signals that are still in their table.

    :param rows: the ids of their rows, for those that are not found by their keys.
    """
    histories = _failure_histories(connection, spec, has_key(spec, connection.dialect, keys))
    if rows and not all(is_read_exactly(spec, key) for key in keys):
        # A row that was written anew since is found by its key only.
        by_row = _failure_histories(connection, spec, has_id(rows, spec.table))
        same = {key for key, one in by_row.items() if key in histories and histories[key].text == one.text}
        histories |= {key: replace(one, has_key=key in same) for key, one in by_row.items()}
    return histories


def _failure_histories(
    connection: Connection, spec: SignalSpec, condition: ColumnElement[bool]
) -> dict[Key, FailureHistory]:
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
    return {tuple(row[6:]): FailureHistory(*row[:6]) for row in rows}


def row_versions(connection: Connection, spec: SignalSpec, signals: Sequence[SignalRef]) -> dict[SignalRef, str]:
    """The row version of each of these signals that is still in its table, locked or not.

    A row that is no longer a signal, by the model's condition, is not.

    :param signals: keys, and ids of rows.
    """
    versions: dict[SignalRef, str] = {}
    there = spec.is_signal
    if keys := [one for one in signals if not isinstance(one, str)]:
        by_key = select(row_version(spec), *spec.primary_key).where(has_key(spec, connection.dialect, keys), *there)
        versions |= {tuple(row[1:]): row[0] for row in connection.execute(by_key)}
    if ids := [one for one in signals if isinstance(one, str)]:
        by_id = select(row_id(connection.dialect), row_version(spec)).where(has_id(ids, spec.table), *there)
        versions |= {row[0]: row[1] for row in connection.execute(by_id.select_from(spec.table))}
    return versions


def record_failures(
    connection: Connection, spec: SignalSpec, failures: Sequence[Failure], histories: Mapping[Key, FailureHistory]
) -> None:
    """Record failures: first ones and repeated ones.

    :param histories: from :func:`failure_histories`.
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
                "key_text": histories[failure.key].text,
                "number": failure.attempts,
                "wait": _wait(failure, histories[failure.key]),
                "class_": failure.error_class,
                "reason": storable(("" if histories[failure.key].has_key else _LOSSY) + failure.error_text),
            }
            | (
                {}
                if is_old
                else {
                    "version": histories[failure.key].version if failure.is_of_row else None,
                    "of": _text_or_none(failure.destination),
                }
            )
            for failure in failures
        ],
    )


def _wait(failure: Failure, history: FailureHistory) -> timedelta | None:
    is_parked = failure.wait_seconds is None or not history.has_key
    return None if is_parked else timedelta(seconds=failure.wait_seconds or 0.0)


def _text_or_none(text: str | None) -> str | None:
    return None if text is None else storable(text)


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
    except StatementError as error:
        if is_away(error):
            raise
        logger.debug("The records of sent signals of %s cannot be deleted.", spec.name, exc_info=True)


def forget_gone(connection: Connection, spec: SignalSpec) -> int:
    """Delete the records of rows that are no longer in their table, or have another version; return how many.

    A row that is no longer a signal, by the model's condition, is gone too.

    Otherwise a new signal with the key of an old one would be left alone with it. A record that was written before
    records had the version of their row gets the one that the row has now, unless the signal was sent: the row may be a
    signal that was not.
    """
    table = parked_table_of(spec)
    is_old = lacks_columns(connection, table)
    mine = table.c.table_name == spec.table.fullname
    version = null() if is_old else table.c.row_version
    records = connection.execute(select(table.c.key, version, table.c.next_try_at.is_(None)).where(mine)).all()
    versions = {row[0]: row[1] for row in records}
    keys = list(keys_of(connection, spec, list(versions)).values())
    there = select(text_of_key(spec), row_version(spec)).where(*spec.is_signal)
    by_key = there.where(has_key(spec, connection.dialect, keys))
    found = {row[0]: row[1] for row in connection.execute(by_key)} if keys else {}
    is_integer = has_integer_key(spec)
    rest = [row[0] for row in records if row[2] and row[0] not in found and not (is_integer and _is_integer(row[0]))]
    if rest:
        # Of parked ones the model may read the key as another than it is.
        by_text = there.where(text_of_key(spec) == any_(bindparam("rest", rest, type_=ARRAY(Text))))
        found |= {row[0]: row[1] for row in connection.execute(by_text)}
    gone = [text for text, before in versions.items() if found.get(text, "") != (before or found.get(text))]
    if gone:
        listed = bindparam("gone", gone, type_=ARRAY(Text))
        connection.execute(sql_delete(table).where(mine, table.c.key == any_(listed)))
    unknown = [] if is_old else [text for text, before in versions.items() if before is None and text in found]
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


def _is_integer(text: str) -> bool:
    return text.lstrip("-").isdecimal()
