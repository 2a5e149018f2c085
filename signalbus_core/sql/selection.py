"""The cached statements of bursts: building one takes longer than running it.

Between the bursts of a model they differ only in the values of their parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Column,
    CursorResult,
    Delete,
    Integer,
    and_,
    bindparam,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlalchemy import delete as sql_delete
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import Session, aliased, lazyload, undefer
from sqlalchemy.sql import ColumnElement, Select

from ..model.contract import SignalSpec
from .keys import Key, Mark, given_keys, has_key, has_loadable_key, has_other_key, is_from, joins_given_keys, parts
from .parked import LeaveOut, leaving_out
from .rows import has_id, row_bytes, row_id, wide_columns
from .transaction import LOOK_UP_KEYS, execute_with

#: So many statements are cached, of each kind. A model has up to four.
KEPT_STATEMENTS = 1024


@dataclass(frozen=True)
class Choice:
    """Which of a model's signals a burst may take.

    :param leave_out: which of the failed signals it skips.
    :param exclude: keys that it skips, and ids of rows: those of signals whose keys Python reads as others.
    :param only: when given, it takes only these, as in ``exclude``.
    :param forgets: whether to delete the records of the signals that it sends, because some may have failed before.
    :param start: for models with a single integer key: the lowest key of the scan, except for keys in ``only``.
    """

    leave_out: LeaveOut = LeaveOut.NOTHING
    exclude: tuple[Mark, ...] = ()
    only: tuple[Mark, ...] | None = None
    forgets: bool = False
    start: int | None = None


#: All signals.
EVERYTHING = Choice()


def lock_signals(
    session: Session, spec: SignalSpec, limit: int, choice: Choice, most_bytes: int, options: Mapping[str, str]
) -> tuple[list[tuple[Any, str | None]], bool]:
    """Lock and load up to ``limit`` of the chosen signals that nobody else has locked, lowest keys first.

    On PostgreSQL no more is loaded than ``most_bytes``, and the row that passes them: a table may get large rows at any
    time.

    All columns are loaded, also deferred ones; relationships are loaded lazily, because an outer join cannot be locked.

    :param options: execution options of the statement.
    :returns: each signal, with the id of its row; and whether further rows may have been left out for their size.
    """
    dialect = session.get_bind(spec.mapper).dialect
    has_start = choice.only is None and choice.start is not None
    if choice.only is None and not choice.exclude:
        statement = _cached_loading(spec, dialect, Choice(choice.leave_out), limit > 1, has_start)
    else:
        statement = _loading(spec, dialect, choice, limit > 1, has_start)
    # Objects that are already in the session are refreshed from their rows.
    refreshing = {"populate_existing": True} if session.identity_map or session.new else {}
    values = {"signalbus_limit": limit, "signalbus_most_bytes": most_bytes}
    if choice.start is not None and has_start:
        values["signalbus_start"] = choice.start
    rows = session.execute(statement, values, execution_options={**options, **refreshing}).all()
    is_cut = 0 < len(rows) < limit and rows[-1][2] > most_bytes
    return [(signal, row) for signal, row, _ in rows], is_cut


def follows_index(dialect: Dialect, choice: Choice) -> bool:
    """Whether a scan for these signals must use the index of the key. Given keys are looked up in any order."""
    return dialect.name == "postgresql" and choice.only is None


def _loading(spec: SignalSpec, dialect: Dialect, choice: Choice, has_several: bool, has_start: bool) -> Select[Any]:
    """The statement for bursts with the same kind of choice; limit, start and bytes are its parameters."""
    is_capped = has_several and dialect.name == "postgresql" and bool(wide_columns(spec))
    if is_capped:
        columns = [column for column in spec.mapper.columns if isinstance(column, Column)]
        statement: Select[Any] = select(
            *columns, row_id(dialect).label("signalbus_row"), row_bytes(spec).label("signalbus_bytes")
        ).select_from(spec.model)
    else:
        statement = _whole(spec, dialect).add_columns(literal(0))
    if has_start:
        statement = statement.where(is_from(spec, bindparam("signalbus_start", type_=BigInteger)))
    statement = locking(
        spec, dialect, replace(choice, start=None), bindparam("signalbus_limit", type_=Integer), statement
    )
    return _capped(spec, statement) if is_capped else statement


def _capped(spec: SignalSpec, locked: Select[Any]) -> Select[Any]:
    """Of the rows that are locked, the first ones, until they pass the bytes that may be loaded.

    Large values stay in their TOAST table until a row is sent to the client, so that nothing else reads them.
    """
    rows = locked.subquery("signalbus_locked")
    bytes_before = func.coalesce(func.sum(rows.c.signalbus_bytes).over(rows=(None, -1)), 0)
    counted = select(rows, bytes_before.label("signalbus_before")).subquery("signalbus_counted")
    fits = counted.c.signalbus_before <= bindparam("signalbus_most_bytes", type_=BigInteger)
    total = counted.c.signalbus_before + counted.c.signalbus_bytes
    loaded = select(aliased(spec.model, counted), counted.c.signalbus_row, total).where(fits)
    return loaded.options(lazyload("*"), undefer("*"))


_cached_loading = lru_cache(KEPT_STATEMENTS)(_loading)


def lock_rows(
    connection: Connection, spec: SignalSpec, limit: int, choice: Choice, most_bytes: int
) -> tuple[list[Any], bool]:
    """Lock the same signals, and read only the ids of their rows.

    :returns: the ids for :func:`load_rows`; where rows have none, the keys.
    """
    if connection.dialect.name != "postgresql":
        statement = locking(spec, connection.dialect, choice, limit, select(*spec.primary_key).select_from(spec.model))
        return [tuple(row) for row in connection.execute(statement)], False
    sized = select(row_id(connection.dialect), row_bytes(spec)).select_from(spec.model)
    rows = connection.execute(locking(spec, connection.dialect, choice, limit, sized)).all()
    fitting = sum(total <= most_bytes for total in accumulate(size for _, size in rows))
    taken = [found for found, _ in rows[: max(1, fitting)]]
    return taken, len(taken) < len(rows)


def load_rows(session: Session, spec: SignalSpec, taken: Sequence[Any]) -> list[tuple[Any, str | None]]:
    """Load signals that :func:`lock_rows` has locked, in the order of their keys, as :func:`lock_signals` does."""
    dialect = session.get_bind(spec.mapper).dialect
    statement = _whole(spec, dialect).where(_taken(spec, dialect, taken)).order_by(*spec.primary_key)
    found = session.execute(statement, execution_options={"populate_existing": True})
    return [(signal, row) for signal, row in found]


def keys_of_rows(connection: Connection, spec: SignalSpec, taken: Sequence[Any]) -> list[Key]:
    """The keys of signals that :func:`lock_rows` has locked."""
    statement = select(*spec.primary_key).where(_taken(spec, connection.dialect, taken))
    return [tuple(row) for row in connection.execute(statement)]


def _taken(spec: SignalSpec, dialect: Dialect, taken: Sequence[Any]) -> ColumnElement[bool]:
    return has_id(taken) if dialect.name == "postgresql" else has_key(spec, dialect, taken)


def _whole(spec: SignalSpec, dialect: Dialect) -> Select[Any]:
    return select(spec.model, row_id(dialect)).options(lazyload("*"), undefer("*"))


def locking(
    spec: SignalSpec, dialect: Dialect, choice: Choice, limit: int | ColumnElement[int], statement: Select[Any]
) -> Select[Any]:
    """Make a statement about a model lock up to ``limit`` of the chosen signals, lowest keys first."""
    chosen = pending(spec, dialect, choice, statement)
    return chosen.order_by(*spec.primary_key).limit(limit).with_for_update(skip_locked=True)


def delete_signals(connection: Connection, spec: SignalSpec, keys: Sequence[Key]) -> int:
    """Delete the signals with these keys; return how many rows were deleted."""
    if connection.dialect.name != "postgresql":
        pieces = parts(connection.dialect, keys)
        deletes = [sql_delete(spec.table).where(has_key(spec, connection.dialect, piece)) for piece in pieces]
        return sum(cast("CursorResult[Any]", connection.execute(delete)).rowcount for delete in deletes)
    return execute_with(connection, LOOK_UP_KEYS, _deleting(spec), {**given_keys(spec, keys)}).rowcount


@lru_cache(KEPT_STATEMENTS)
def _deleting(spec: SignalSpec) -> Delete:
    return sql_delete(spec.table).where(joins_given_keys(spec))


def count_pending(session: Session, spec: SignalSpec, limit: int | None) -> int:
    """How many signals are in the table; with a limit, counting stops there.

    All signals count, as in a relay: failed ones too, and those that filters of the session hide.
    """
    connection = session.connection(bind_arguments={"mapper": spec.mapper})
    counted = all_keys(spec).limit(limit).subquery()
    return connection.scalar(select(func.count()).select_from(counted)) or 0


def all_keys(spec: SignalSpec) -> Select[Any]:
    """The keys of all signals of a model. To be run on a connection: a session may add its own filters."""
    return select(*spec.primary_key).select_from(spec.model).where(*spec.is_signal)


def count_unloadable_keys(connection: Connection, spec: SignalSpec, limit: int) -> int:
    """How many signals no burst takes, because Python cannot represent their keys; counting stops at the limit."""
    loadable = has_loadable_key(spec, connection.dialect)
    if not loadable:
        return 0
    rows = select(*spec.primary_key).select_from(spec.model).where(not_(and_(*loadable)), *spec.is_signal).limit(limit)
    return connection.scalar(select(func.count()).select_from(rows.subquery())) or 0


def pending(spec: SignalSpec, dialect: Dialect, choice: Choice, statement: Select[Any]) -> Select[Any]:
    """Restrict a statement about a model to the chosen signals whose keys can be loaded."""
    statement = statement.where(*spec.is_signal)
    if choice.only is not None:
        keys, rows = _keys_and_rows(choice.only)
        return statement.where(or_(has_key(spec, dialect, keys), *([has_id(rows)] if rows else [])))
    statement = statement.where(*has_loadable_key(spec, dialect))
    if choice.start is not None:
        statement = statement.where(is_from(spec, choice.start))
    keys, rows = _keys_and_rows(choice.exclude)
    for part in parts(dialect, keys):
        statement = statement.where(has_other_key(spec, dialect, part))
    if rows:
        statement = statement.where(has_id(rows, negated=True))
    return leaving_out(spec, choice.leave_out, statement)


def _keys_and_rows(marks: Sequence[Mark]) -> tuple[list[Key], list[str]]:
    keys = [mark for mark in marks if not isinstance(mark, str)]
    return keys, [mark for mark in marks if isinstance(mark, str)]
