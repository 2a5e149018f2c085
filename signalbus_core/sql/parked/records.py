"""The records of failed signals in the retry store: written and deleted by bursts and relays.

A failed signal stays in its own table. Its record only makes bursts skip it: while it is *waiting*, until its next try;
once it is *parked*, until a person decides.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ARRAY, Interval, Text, any_, bindparam, func, null, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import StatementError

from ...failures import is_away
from ...model.contract import SignalSpec
from ...schema.own_tables import UNDELETED, lacks_columns, parked_table_of, storable
from ..keys import Key, has_integer_key, has_key, text_of_key
from .conditions import row_version
from .histories import FailureHistory, keys_of

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
