"""Removes the rows of signals that were sent: by exact keys while these are locked, else by the ids of their versions.

A row that somebody else wrote meanwhile under the same key, or one that is read alike, is never deleted. Of models that
keep what was sent, the rows are moved by the same statement; where that fails, they are only deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, cast

from sqlalchemy import CursorResult, Delete, Update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import ColumnElement

from ..errors import BurstError, counted
from ..failures import error_text, is_away, is_late, is_lost, is_time_limit
from ..model.contract import SignalSpec
from ..schema.own_tables import SENT
from .keys import Key, given_keys, has_exact_key, has_key, joins_given_keys, parts
from .removal import is_left, removal, removed
from .rows import Row, all_ids, find_ids, find_keys, find_written, has_id, written_here
from .sent.move import BACK, NOTHING_KNOWN, Kept, move_signals, move_where
from .sent.suspended import suspend, why_suspended
from .transaction import LOOK_UP_CTIDS, LOOK_UP_KEYS, execute_with, put_in_front

logger = logging.getLogger("signalbus")

#: So many statements are cached, one for each model.
KEPT_STATEMENTS = 1024


def delete_for_good(
    connection: Connection,
    spec: SignalSpec,
    rows: Sequence[Row],
    *,
    is_locked: bool = False,
    known: Mapping[str, Kept] | None = None,
) -> list[Row]:
    """Delete rows, and check deferred constraints.

    :param is_locked: the transaction has locked the rows. Else those that are gone are left out.
    :returns: those that are kept; if none, those that triggers have written again.
    """
    if connection.dialect.name != "postgresql":
        return delete_rows(connection, spec, rows, known=known)
    if not is_locked:
        rows = find_ids(connection, spec, all_ids(rows), locks=True)
    if not rows:
        return []
    left = delete_rows(connection, spec, rows, known=known, by_key=is_locked)
    return left or _written_again(connection, spec, [row.key for row in rows])


def _written_again(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> list[Row]:
    """Check deferred constraints; return the rows under these keys that the transaction has written."""
    put_in_front(connection, "SET CONSTRAINTS ALL IMMEDIATE")
    conditions = [written_here(spec.table), *is_left(spec)]
    if has_exact_key(spec, connection.dialect, keys):
        return find_keys(connection, spec, keys, conditions)
    # This runs the statement in front, too: a constraint that is violated is no failure of the look.
    looking = connection.begin_nested()
    try:
        with looking:
            return find_keys(connection, spec, keys, conditions)
    except SQLAlchemyError as error:
        if is_away(error) or is_late(error):
            raise
        # The type of the model, or the database, does not take a key that was read: its row was known by its id.
        logger.debug("%s: rows cannot be looked for by their keys.", spec.name, exc_info=True)
        return []


def delete_rows(
    connection: Connection,
    spec: SignalSpec,
    rows: Sequence[Row],
    *,
    known: Mapping[str, Kept] | None = None,
    by_key: bool = True,
) -> list[Row]:
    """Delete rows that the transaction has locked; return those of them that the database keeps without an error.

    :param known: what is kept of the signals beside their rows, by the ids of these.
    :param by_key: no other transaction can have written rows with these keys. Else they are deleted by their ids only.
    """
    known = known or {}
    dialect, keys = connection.dialect, [row.key for row in rows]
    if dialect.name != "postgresql":
        if delete_signals(connection, spec, keys) == len(rows):
            return []
        return find_keys(connection, spec, keys, is_left(spec))
    deleted = 0
    if by_key and has_exact_key(spec, dialect, keys):
        kept = [known.get(row.ids[-1], NOTHING_KNOWN) if row.ids else NOTHING_KNOWN for row in rows]
        deleted = delete_signals(connection, spec, keys, kept)
        if deleted == len(rows):
            return []
        if deleted > len(rows):
            # Roll back: the rows include one that nobody sent.
            raise BurstError(
                f"{counted(len(rows), f'signal of {spec.name}', 'has')} the keys of {deleted} rows of "
                f"{spec.table.fullname!r}. Look for tables that inherit from it."
            )
    deleted += delete_where(connection, spec, [has_id(all_ids(rows))], known, len(rows) - deleted)
    if deleted == len(rows):
        return []
    left = is_left(spec)
    # The send method, or a trigger, may have written them anew, perhaps with other keys.
    if written := find_written(connection, spec, rows, left):
        delete_where(connection, spec, [has_id(all_ids(written.values()))], known, len(written))
        written = find_written(connection, spec, rows, left)
    # The send method may have deleted signals itself; only rows that still exist are kept.
    return [*find_ids(connection, spec, all_ids(rows), left), *written.values()]


def delete_signals(connection: Connection, spec: SignalSpec, keys: Sequence[Key], kept: Sequence[Kept] = ()) -> int:
    """Delete the signals with these keys; return how many rows were deleted.

    :param kept: what is kept of each beside its row, where they are single integers.
    """
    if connection.dialect.name != "postgresql":
        pieces = parts(connection.dialect, keys)
        deletes = [removal(spec).where(has_key(spec, connection.dialect, piece)) for piece in pieces]
        return sum(removed(spec, cast("CursorResult[Any]", connection.execute(delete))) for delete in deletes)

    def delete() -> int:
        return removed(spec, execute_with(connection, LOOK_UP_KEYS, _deleting(spec), {**given_keys(spec, keys)}))

    if not kept or not _keeps(connection, spec):
        return delete()
    return _moved_or_deleted(connection, spec, lambda: move_signals(connection, spec, keys, kept), delete, len(keys))


def delete_where(
    connection: Connection,
    spec: SignalSpec,
    conditions: Collection[ColumnElement[bool]],
    known: Mapping[str, Kept],
    expected: int,
) -> int:
    """Delete the rows with all of these conditions; return how many they were.

    :param known: what is kept of them beside the rows, by their ids.
    :param expected: the number of rows, if all are there.
    """

    def delete() -> int:
        return removed(spec, execute_with(connection, LOOK_UP_CTIDS, removal(spec).where(*conditions)))

    if not _keeps(connection, spec):
        return delete()
    moving = partial(move_where, connection, spec, conditions, known)
    return _moved_or_deleted(connection, spec, moving, delete, expected)


def _keeps(connection: Connection, spec: SignalSpec) -> bool:
    return spec.keep_days is not None and why_suspended(connection.engine, SENT.of(spec)) is None


def _moved_or_deleted(
    connection: Connection, spec: SignalSpec, move: Callable[[], int], delete: Callable[[], int], expected: int
) -> int:
    """Move rows; where that fails, and deleting them does not, nothing is kept for a while."""
    why = f"a rule of {SENT.of(spec).fullname} takes the place of the statement that moves rows there"
    removed, error = _moved(connection, move)
    if removed == expected:
        return removed
    deleted = delete()
    if deleted and error is not None and not is_time_limit(error):
        # What kept the rows may have ended between the two statements; then the history is not at fault.
        connection.exec_driver_sql(BACK)
        removed, error = _moved(connection, move)
        deleted = 0 if removed == deleted else delete()
    if deleted:
        suspend(connection.engine, SENT.of(spec), why if error is None else error_text(error))
    return removed + deleted


def _moved(connection: Connection, move: Callable[[], int]) -> tuple[int, SQLAlchemyError | None]:
    """Move rows; return how many were moved, and why none was, in the transaction as it was before then."""
    try:
        return move(), None
    except SQLAlchemyError as error:
        if is_lost(error) or connection.invalidated:
            raise
        # The rows stay locked: nobody else may send them again.
        connection.exec_driver_sql(BACK)
        return 0, error


@lru_cache(KEPT_STATEMENTS)
def _deleting(spec: SignalSpec) -> Delete | Update:
    return removal(spec).where(joins_given_keys(spec))
