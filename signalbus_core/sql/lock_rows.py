"""The statements that lock the rows of a burst: ``FOR UPDATE SKIP LOCKED``, in the order of the primary key.

They are cached, because building one takes longer than running it. Between the bursts of a model they differ only in
the values of their parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, chain
from types import MappingProxyType
from typing import Any, cast

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
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.sql import ColumnElement, Select, Subquery, visitors
from sqlalchemy.types import TypeDecorator

from ..model.contract import SignalSpec
from ..model.sending.senders import RowSender
from .keys import Key, has_key, is_from
from .rows import Row, has_id, row_id
from .schedule.conditions import order_of
from .selection import Choice, pending

#: So many statements are cached. A model has up to four.
KEPT_STATEMENTS = 1024

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})

#: Values of these types are always small.
_NARROW = (Boolean, Date, DateTime, Integer, Numeric, Uuid)

#: Values stored in at most so many bytes are not measured further, unless they are compressed: PostgreSQL moves larger
#: ones out of the row (TOAST).
_STORED_INLINE = 2000


def row_sender(session: Session, spec: SignalSpec) -> RowSender | None:
    """What sends the signals of a model as rows; None where instances are needed."""
    # What the application adds to statements, or does with loaded instances, would be left out.
    of_session, of_model = session.dispatch, spec.mapper.class_manager.dispatch
    has_listeners = of_session.do_orm_execute or of_session.loaded_as_persistent or of_model.load or of_model.refresh
    return None if has_listeners else spec.row_sender


def lock_signals(
    session: Session, spec: SignalSpec, limit: int, choice: Choice, most_bytes: int, options: Mapping[str, str]
) -> tuple[list[tuple[Any, Row]], bool]:
    """Lock and load up to ``limit`` of the chosen signals that nobody else has locked, lowest keys first.

    On PostgreSQL no more is loaded than ``most_bytes``, and the row that passes them: a table may get large rows at any
    time.

    All columns are loaded, also deferred ones; relationships are loaded lazily, because an outer join cannot be locked.

    :param options: execution options of the statement.
    :returns: each signal, an instance or what the model's ``row_sender`` takes, with its row; and whether further rows
      may have been left out for their size.
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
    as_rows = row_sender(session, spec) is not None
    if choice.only is None and not choice.exclude:
        statement = _cached_loading(
            spec, dialect, Choice(choice.leave_out, part=choice.part), limit > 1, has_start, as_rows
        )
    else:
        statement = _loading(spec, dialect, choice, limit > 1, has_start, as_rows)
    values = {"signalbus_limit": limit, "signalbus_most_bytes": most_bytes}
    if choice.start is not None and has_start:
        values["signalbus_start"] = choice.start
    rows = _execute(session, spec, statement, values, options)
    is_cut = 0 < len(rows) < limit and rows[-1][-1] > most_bytes
    return _loaded(spec, rows, as_rows), is_cut


def _execute(
    session: Session, spec: SignalSpec, statement: Select[Any], values: Any, options: Mapping[str, str]
) -> Sequence[Any]:
    # Objects that are already in the session are refreshed from their rows.
    refreshing = {"populate_existing": True} if session.identity_map or session.new else {}
    by = {"mapper": spec.mapper}
    return session.execute(statement, values, execution_options={**options, **refreshing}, bind_arguments=by).all()


def _loaded(spec: SignalSpec, loaded: Sequence[Any], as_rows: bool) -> list[tuple[Any, Row]]:
    """The signals, each with its row. Behind each there are the id of its row and a number of bytes."""
    parts = len(spec.primary_key)
    if as_rows:
        return [(one, Row(one[:parts], () if one[-2] is None else (one[-2],))) for one in loaded]
    return [(signal, Row(_key_of(signal, parts), () if row is None else (row,))) for signal, row, _ in loaded]


def _key_of(signal: Any, parts: int) -> Key:
    # SQLAlchemy creates no object where the key is None.
    state: Any = None if signal is None else instance_state(signal)
    return (None,) * parts if state is None else state.key[1]


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
    columns = (row_id(dialect), row_bytes(wide_columns(spec))) if has_ids else tuple(spec.primary_key)
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
    return chosen.order_by(*order_of(spec, choice.part)).limit(limit).with_for_update(skip_locked=True)


def load_rows(session: Session, spec: SignalSpec, taken: Sequence[Any]) -> list[tuple[Any, Row]]:
    """Load signals that :func:`lock_rows` has locked, in the order of their keys, as :func:`lock_signals` does."""
    dialect, as_rows = session.get_bind(spec.mapper).dialect, row_sender(session, spec) is not None
    statement = _whole(spec, dialect, as_rows).where(_taken(spec, dialect, taken)).order_by(*spec.primary_key)
    rows = _execute(session, spec, statement.add_columns(literal(0)), None, NO_OPTIONS)
    return _loaded(spec, rows, as_rows)


def keys_of_rows(connection: Connection, spec: SignalSpec, taken: Sequence[Any]) -> list[Key]:
    """The keys of signals that :func:`lock_rows` has locked."""
    statement = select(*spec.primary_key).where(_taken(spec, connection.dialect, taken))
    return [tuple(row) for row in connection.execute(statement)]


def follows_index(dialect: Dialect, choice: Choice) -> bool:
    """Whether a scan for these signals must use the index of the key. Given keys are looked up in any order."""
    return dialect.name == "postgresql" and choice.only is None


def _loading(
    spec: SignalSpec, dialect: Dialect, choice: Choice, has_several: bool, has_start: bool, as_rows: bool
) -> Select[Any]:
    """The statement for bursts with the same kind of choice; limit, start and bytes are its parameters."""
    is_capped = has_several and _is_capped(spec, dialect)
    if is_capped:
        columns = _read_columns(spec, as_rows)
        measured = row_bytes(columns).label("signalbus_bytes")
        statement: Select[Any] = select(*columns, row_id(dialect).label("signalbus_row"), measured)
        statement = statement.select_from(spec.table if as_rows else spec.model)
    else:
        statement = _whole(spec, dialect, as_rows).add_columns(literal(0))
    if has_start:
        statement = statement.where(is_from(spec, bindparam("signalbus_start", type_=BigInteger)))
    statement = locking(
        spec, dialect, replace(choice, start=None), bindparam("signalbus_limit", type_=Integer), statement
    )
    return _capped(spec, statement, as_rows) if is_capped else statement


def _read_columns(spec: SignalSpec, as_rows: bool) -> list[Column[Any]]:
    """The columns of the table that are read for a signal."""
    found: Iterable[Any] = spec.mapper.columns
    if as_rows:
        found = chain.from_iterable(map(visitors.iterate, _row_columns(spec)))
    return list(dict.fromkeys(one for one in found if isinstance(one, Column) and one.table is spec.table))


def _row_columns(spec: SignalSpec) -> list[ColumnElement[Any]]:
    assert spec.row_sender is not None
    return [one.label(name) for name, one in spec.row_sender.columns.items()]


def _is_capped(spec: SignalSpec, dialect: Dialect) -> bool:
    """Whether the bytes of several rows have to be limited."""
    return dialect.name == "postgresql" and bool(wide_columns(spec))


def _capped(spec: SignalSpec, locked: Select[Any], as_rows: bool) -> Select[Any]:
    """Of the rows that are locked, the first ones, until they pass the bytes that may be loaded.

    Large values stay in their TOAST table until a row is sent to the client, so that nothing else reads them.
    """
    rows = locked.subquery("signalbus_locked")
    bytes_before = func.coalesce(func.sum(rows.c.signalbus_bytes).over(rows=(None, -1)), 0)
    counted = select(rows, bytes_before.label("signalbus_before")).subquery("signalbus_counted")
    fits = counted.c.signalbus_before <= bindparam("signalbus_most_bytes", type_=BigInteger)
    total = counted.c.signalbus_before + counted.c.signalbus_bytes
    if as_rows:
        loaded = [_of(counted, one) for one in _row_columns(spec)]
        return select(*loaded, counted.c.signalbus_row, total).where(fits)
    whole = select(aliased(spec.model, counted), counted.c.signalbus_row, total).where(fits)
    return whole.options(lazyload("*"), undefer("*"))


def _of(rows: Subquery, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same, computed from these rows instead of the table."""

    def replaced(part: Any, **_: Any) -> Any:
        return rows.corresponding_column(part) if isinstance(part, Column) else None

    return cast("ColumnElement[Any]", visitors.replacement_traverse(column, {}, cast(Any, replaced)))


_cached_loading = lru_cache(KEPT_STATEMENTS)(_loading)


def _taken(spec: SignalSpec, dialect: Dialect, taken: Sequence[Any]) -> ColumnElement[bool]:
    return has_id(taken) if dialect.name == "postgresql" else has_key(spec, dialect, taken)


def _whole(spec: SignalSpec, dialect: Dialect, as_rows: bool) -> Select[Any]:
    if as_rows:
        return select(*_row_columns(spec), row_id(dialect)).select_from(spec.table)
    return select(spec.model, row_id(dialect)).options(lazyload("*"), undefer("*"))


def row_bytes(columns: Iterable[Column[Any]]) -> ColumnElement[int]:
    """About how many bytes these columns of a row have when they are read, without decompressing where possible."""
    total: ColumnElement[int] = literal_column("0", BigInteger)
    for column in columns:
        if _is_wide(column):
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
