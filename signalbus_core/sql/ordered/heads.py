"""The statements that lock signals of an ordered model: of each key the earliest one, its head, and a run behind it.

Invariant: whoever has locked the head of a key is the only one who sends signals of it.

- A snapshot that has a signal has all earlier ones of its key that are not deleted: the trigger of the table sees to it
  (:mod:`signalbus_core.schema.ordering.position`). So the lowest position of a key in the snapshot of this statement is
  that of its head, unless that was deleted since; then it cannot be locked, and nothing of its key is taken.
- A burst deletes what it has sent in the transaction that has locked it. While it is under way, its signals are in
  every snapshot, so that no other burst takes a later one of their keys for a head.
- A row that is locked by others, or was changed since, is passed over with all that follow it.

The heads are found by a skip scan: one index lookup for each key, however many signals it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Integer,
    Text,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
)
from sqlalchemy import tuple_ as sql_tuple
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ColumnElement, FromClause, Select
from sqlalchemy.sql.expression import CTE

from ...model.contract import SignalSpec
from ...model.order import KeyOrder, Place
from ..key_types import value_as_text, value_from_text
from ..lock_rows import KEPT_STATEMENTS, row_bytes, wide_columns
from ..parked import LeaveOut, not_passed_over
from ..rows import row_id
from ..selection import Choice, Ring, is_none_of, pending
from .places import last_head, placed, takeable


def take_in_order(
    connection: Connection, spec: SignalSpec, limit: int, choice: Choice, most_bytes: int
) -> tuple[dict[Any, Place], bool]:
    """Lock up to ``limit`` signals, of each key the earliest ones.

    :returns: the places of the signals, wave by wave, by the ids of their rows, or by their keys where rows have no
      ids; and whether there may be more.
    """
    if connection.dialect.name != "postgresql":
        found = takeable(_all(connection, spec, choice), limit)
        return dict(found), len(found) == limit
    ring = choice.ring or Ring()
    after = ring.after if choice.only is None else None
    values: dict[str, Any] = {"signalbus_limit": limit}
    if after is not None:
        values |= {_after(number): text for number, text in enumerate(after)}
    if choice.only is None and not choice.exclude:
        statement = _cached_taking(spec, connection.dialect, choice.leave_out, after is not None)
    else:
        statement = _taking(spec, connection.dialect, choice, after is not None)
    rows = connection.execute(statement, values).all()
    if rows and (head := last_head(rows)) is not None:
        ring.after = tuple(rows[head][4:])
    return placed(rows, limit, most_bytes, unkeyed_first=ring.take_turn())


def has_takeable(spec: SignalSpec, dialect: Dialect, choice: Choice) -> ColumnElement[bool]:
    """The condition that a burst could take a signal of the model, if nobody else had it locked."""
    assert spec.order is not None
    if dialect.name != "postgresql":
        return pending(spec, dialect, choice, select(literal(1)).select_from(spec.model)).exists()
    if choice.only is not None:
        return exists(_retried(spec, dialect, choice, locks=False))
    heads = _heads(spec, dialect, choice, has_after=False)
    free = _at(spec, dialect, choice, heads, locks=False)
    keyed = exists(select(literal(1)).select_from(heads.join(free, true())))
    return or_(keyed, exists(_without_key(spec, dialect, choice, locks=False))) if spec.order.is_nullable else keyed


def _taking(spec: SignalSpec, dialect: Dialect, choice: Choice, has_after: bool) -> Select[Any]:
    order = _order(spec)
    limit = bindparam("signalbus_limit", type_=Integer)
    no_texts = [null().label(f"text_{number}") for number in range(len(order.by))]
    if choice.only is not None:
        retried = _retried(spec, dialect, choice, locks=True).limit(limit).cte("signalbus_retried")
        number = func.row_number().over()
        return select(
            number.label("key"), literal_column("0").label("number"), retried.c.id, retried.c.bytes, *no_texts
        )
    heads = _heads(spec, dialect, choice, has_after=has_after)
    free = _at(spec, dialect, choice, heads, locks=True)
    locked = select(*heads.c, free.c.id, free.c.bytes).select_from(heads.join(free, true())).limit(limit)
    locked_heads = locked.cte("signalbus_locked_heads")
    first = select(func.row_number().over().label("key"), *locked_heads.c).cte("signalbus_first")
    behind = _behind(spec, dialect, choice, first, limit)
    free_behind = _at(spec, dialect, choice, behind, locks=True)
    texts = [_as_text(first.c[f"key_{number}"]).label(f"text_{number}") for number in range(len(order.by))]
    parts: list[Select[Any]] = [
        select(first.c.key, literal_column("0").label("number"), first.c.id, first.c.bytes, *texts),
        select(behind.c.key, behind.c.number, free_behind.c.id, free_behind.c.bytes, *no_texts).select_from(
            behind.join(free_behind, true())
        ),
    ]
    if order.is_nullable:
        unkeyed = _without_key(spec, dialect, choice, locks=True).limit(limit).cte("signalbus_unkeyed")
        parts.append(select(-func.row_number().over(), literal_column("0"), unkeyed.c.id, unkeyed.c.bytes, *no_texts))
    every = parts[0].union_all(*parts[1:]).subquery("signalbus_taken")
    return select(*every.c)


@lru_cache(KEPT_STATEMENTS)
def _cached_taking(spec: SignalSpec, dialect: Dialect, leave_out: LeaveOut, has_after: bool) -> Select[Any]:
    return _taking(spec, dialect, Choice(leave_out), has_after)


def _order(spec: SignalSpec) -> KeyOrder:
    assert spec.order is not None
    return spec.order


def _key(columns: Sequence[Any]) -> Any:
    return columns[0] if len(columns) == 1 else sql_tuple(*columns)


def _as_text(key: ColumnElement[Any]) -> ColumnElement[str]:
    # A time that is infinite has no digits, but a name.
    return func.coalesce(value_as_text(key), cast(key, Text))


def _after(number: int) -> str:
    return f"signalbus_after_{number}"


def _members(spec: SignalSpec, dialect: Dialect, choice: Choice) -> list[ColumnElement[bool]]:
    """The conditions that a row has a place in the order of its key."""
    order = _order(spec)
    recorded = not_passed_over(spec, choice.leave_out, skips_parked=order.skips_parked)
    return [*spec.is_signal, *recorded, *is_none_of(spec, dialect, choice.passed_over)]


def _place_columns(spec: SignalSpec) -> list[ColumnElement[Any]]:
    return [literal_column("tableoid").label("part"), literal_column("ctid").label("place")]


def _heads(spec: SignalSpec, dialect: Dialect, choice: Choice, *, has_after: bool) -> FromClause:
    """The heads of all keys, found as far as they are read, in the order of the keys, beginning behind one of them."""
    order = _order(spec)
    if not has_after:
        return _skip_scan(spec, dialect, choice, "signalbus_heads")
    start = _key([value_from_text(one, bindparam(_after(number), type_=Text)) for number, one in enumerate(order.by)])
    later = _skip_scan(spec, dialect, choice, "signalbus_later", first=[_key(order.by) > start])
    sooner = _skip_scan(spec, dialect, choice, "signalbus_sooner", every=[_key(order.by) <= start])
    return select(*later.c).union_all(select(*sooner.c)).subquery("signalbus_heads")


def _skip_scan(
    spec: SignalSpec,
    dialect: Dialect,
    choice: Choice,
    name: str,
    *,
    first: Sequence[ColumnElement[bool]] = (),
    every: Sequence[ColumnElement[bool]] = (),
) -> CTE:
    """The heads of the keys, one index lookup for each.

    :param first: a condition of the first key, which those that follow it fulfil all the more: it is not checked again.
    :param every: a condition of all keys.
    """
    order = _order(spec)
    keys = [column.label(f"key_{number}") for number, column in enumerate(order.by)]
    lowest = (
        select(*keys, order.position.label("position"), *_place_columns(spec))
        .select_from(spec.model)
        .where(*(column.is_not(None) for column in order.by), *_members(spec, dialect, choice), *every)
        .order_by(*order.by, order.position)
        .limit(1)
    )
    heads = lowest.where(*first).cte(name, recursive=True, nesting=True)
    before = _key([heads.c[f"key_{number}"] for number in range(len(order.by))])
    following = lowest.where(_key(order.by) > before).lateral("signalbus_next")
    return heads.union_all(select(*following.c).select_from(heads.join(following, true())))


def _behind(spec: SignalSpec, dialect: Dialect, choice: Choice, first: CTE, limit: ColumnElement[int]) -> CTE:
    """The signals behind the heads, as many of each key as fit into the burst."""
    order = _order(spec)
    counted = first.alias("signalbus_counted")
    share = select(limit / func.greatest(func.count(), 1) - 1).select_from(counted).scalar_subquery()
    number = func.row_number().over(order_by=order.position)
    same_key = and_(*(column == first.c[f"key_{n}"] for n, column in enumerate(order.by)))
    following = (
        select(number.label("number"), *_place_columns(spec))
        .select_from(spec.model)
        .where(same_key, order.position > first.c.position, *_members(spec, dialect, choice))
        .order_by(order.position)
        .limit(share)
        .lateral("signalbus_following")
    )
    return select(first.c.key, *following.c).select_from(first.join(following, true())).cte("signalbus_behind")


def _at(spec: SignalSpec, dialect: Dialect, choice: Choice, rows: FromClause, *, locks: bool) -> Any:
    """The row at the place of each of these rows, if a burst may take it."""
    here = [literal_column("ctid") == rows.c.place, literal_column("tableoid") == rows.c.part]
    return _locking(spec, pending(spec, dialect, choice, _row(spec, dialect).where(*here)), locks).lateral(
        "signalbus_at"
    )


def _without_key(spec: SignalSpec, dialect: Dialect, choice: Choice, *, locks: bool) -> Select[Any]:
    order = _order(spec)
    is_unkeyed = or_(*(column.is_(None) for column in order.by if column.nullable))
    statement = pending(spec, dialect, choice, _row(spec, dialect).where(is_unkeyed))
    in_order = (*order.by, order.position) if len(order.by) == 1 else (order.position,)
    return _locking(spec, statement.order_by(*in_order), locks)


def _retried(spec: SignalSpec, dialect: Dialect, choice: Choice, *, locks: bool) -> Select[Any]:
    """Those of given signals that are the heads of their keys."""
    order = _order(spec)
    keys = [column.label(f"key_{number}") for number, column in enumerate(order.by)]
    given = select(*keys, order.position.label("position"), *_place_columns(spec)).select_from(spec.model)
    wanted = pending(spec, dialect, choice, given).cte("signalbus_given")
    same_key = [column == wanted.c[f"key_{number}"] for number, column in enumerate(order.by)]
    earlier = select(literal(1)).select_from(spec.model)
    earlier = earlier.where(*same_key, order.position < wanted.c.position, *_members(spec, dialect, choice))
    here = _at(spec, dialect, choice, wanted, locks=locks)
    return select(here.c.id, here.c.bytes).select_from(wanted.join(here, true())).where(~earlier.exists())


def _row(spec: SignalSpec, dialect: Dialect) -> Select[Any]:
    measured = row_bytes(wide_columns(spec)).label("bytes")
    return select(row_id(dialect).label("id"), measured).select_from(spec.model)


def _locking(spec: SignalSpec, statement: Select[Any], locks: bool) -> Select[Any]:
    return statement.with_for_update(skip_locked=True) if locks else statement


def _all(connection: Connection, spec: SignalSpec, choice: Choice) -> list[tuple[Any, Sequence[Any], bool]]:
    """All signals in order, each with its primary key, its key, and whether it may be sent."""
    order = _order(spec)
    parts = len(spec.primary_key)
    every = (
        select(*spec.primary_key, *order.by).select_from(spec.model).where(*_members(spec, connection.dialect, choice))
    )
    chosen = pending(spec, connection.dialect, choice, select(*spec.primary_key).select_from(spec.model))
    free = {tuple(row) for row in connection.execute(chosen)}
    return [
        (key, tuple(row[parts:]), key in free)
        for row in connection.execute(every.order_by(order.position, *spec.primary_key))
        for key in [tuple(row[:parts])]
    ]
