"""The statements that lock the rows of a burst: ``FOR UPDATE SKIP LOCKED``, in the order of the primary key.

They are cached, because building one takes longer than running it. Between the bursts of a model they differ only in
the values of their parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import Session, aliased, lazyload, undefer
from sqlalchemy.sql import ColumnElement, Select
from sqlalchemy.types import TypeDecorator

from ..model.contract import SignalSpec
from .keys import Key, has_key, is_from
from .rows import has_id, row_id
from .selection import Choice, pending

#: So many statements are cached. A model has up to four.
KEPT_STATEMENTS = 1024

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})

#: Values of these types are always small.
_NARROW = (Boolean, Date, DateTime, Integer, Numeric, Uuid)

#: Values stored in at most so many bytes are not measured further, unless they are compressed: PostgreSQL moves larger
#: ones out of the row (TOAST).
_STORED_INLINE = 2000


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
    bind = session.get_bind(spec.mapper)
    dialect = bind.dialect
    has_filters = session.dispatch.do_orm_execute or bind.dispatch.before_execute
    if limit > 1 and has_filters and _is_capped(spec, dialect):
        # A filter that the application adds to a statement is about the model's table, and not about a subquery of it,
        # with which it would become a cross product: rows that the application hides would be sent.
        taken, is_cut = lock_rows(session, spec, limit, choice, most_bytes, options)
        return load_rows(session, spec, taken) if taken else [], is_cut
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


def lock_rows(
    session: Session,
    spec: SignalSpec,
    limit: int,
    choice: Choice,
    most_bytes: int,
    options: Mapping[str, str] = NO_OPTIONS,
) -> tuple[list[Any], bool]:
    """Lock the same signals, and read only the ids of their rows.

    :param options: execution options of the statement.
    :returns: the ids for :func:`load_rows`; where rows have none, the keys.
    """
    dialect = session.get_bind(spec.mapper).dialect
    has_ids = dialect.name == "postgresql"
    columns = (row_id(dialect), row_bytes(spec)) if has_ids else tuple(spec.primary_key)
    statement = locking(spec, dialect, choice, limit, select(*columns).select_from(spec.model))
    # By the session, whose filters hold for these rows too: hidden ones must take no place among the locked ones.
    rows = session.execute(statement, execution_options=options, bind_arguments={"mapper": spec.mapper}).all()
    if not has_ids:
        return [tuple(row) for row in rows], False
    fitting = sum(total <= most_bytes for total in accumulate(size for _, size in rows))
    taken = [found for found, _ in rows[: max(1, fitting)]]
    return taken, len(taken) < len(rows)


def locking(
    spec: SignalSpec, dialect: Dialect, choice: Choice, limit: int | ColumnElement[int], statement: Select[Any]
) -> Select[Any]:
    """Make a statement about a model lock up to ``limit`` of the chosen signals, lowest keys first."""
    chosen = pending(spec, dialect, choice, statement)
    return chosen.order_by(*spec.primary_key).limit(limit).with_for_update(skip_locked=True)


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


def follows_index(dialect: Dialect, choice: Choice) -> bool:
    """Whether a scan for these signals must use the index of the key. Given keys are looked up in any order."""
    return dialect.name == "postgresql" and choice.only is None


def _loading(spec: SignalSpec, dialect: Dialect, choice: Choice, has_several: bool, has_start: bool) -> Select[Any]:
    """The statement for bursts with the same kind of choice; limit, start and bytes are its parameters."""
    is_capped = has_several and _is_capped(spec, dialect)
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


def _is_capped(spec: SignalSpec, dialect: Dialect) -> bool:
    """Whether the bytes of several rows have to be limited."""
    return dialect.name == "postgresql" and bool(wide_columns(spec))


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


def _taken(spec: SignalSpec, dialect: Dialect, taken: Sequence[Any]) -> ColumnElement[bool]:
    return has_id(taken) if dialect.name == "postgresql" else has_key(spec, dialect, taken)


def _whole(spec: SignalSpec, dialect: Dialect) -> Select[Any]:
    return select(spec.model, row_id(dialect)).options(lazyload("*"), undefer("*"))


def row_bytes(spec: SignalSpec) -> ColumnElement[int]:
    """About how many bytes a row has when it is read, without decompressing values where possible."""
    total: ColumnElement[int] = literal_column("0", BigInteger)
    for column in wide_columns(spec):
        total = total + func.coalesce(_bytes_of(column), 0)
    return total


def wide_columns(spec: SignalSpec) -> list[Column[Any]]:
    """The columns whose values may be large."""
    return [column for column in spec.mapper.columns if isinstance(column, Column) and _is_wide(column)]


def _is_wide(column: Column[Any]) -> bool:
    return not isinstance(_plain(column), _NARROW)


def _bytes_of(column: Column[Any]) -> ColumnElement[int]:
    if isinstance(_plain(column), LargeBinary):
        return func.octet_length(column)
    # Measured as text, because the driver reads all other types as text. The column may have another type than the
    # model says. That of a text costs nothing, but others have to be converted.
    as_text, stored = func.octet_length(sql_cast(column, Text)), func.pg_column_size(column)
    if isinstance(_plain(column), String):
        return as_text
    is_plain = func.pg_column_compression(column, type_=Text).is_(None)
    return case((and_(stored <= literal(_STORED_INLINE), is_plain), stored), else_=as_text)


def _plain(column: Column[Any]) -> Any:
    return column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
