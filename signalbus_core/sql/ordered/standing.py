"""Where a signal stands among those of its key: for people, never for bursts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, literal, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement, Select

from ...model.contract import SignalSpec
from ..keys import Key, has_key, text_of_key
from ..parked import LeaveOut, not_passed_over

#: Counting stops here.
MOST_COUNTED = 10_000


@dataclass(frozen=True)
class Standing:
    """Where a signal stands.

    :param head: the signal of its key that is sent first, as text.
    :param before: how many of its key are sent before it; counting stops at a limit.
    :param behind: how many of its key come after it.
    """

    head: str
    before: int
    behind: int


def standing(connection: Connection, spec: SignalSpec, key: Key, *, has_parked_table: bool) -> Standing | None:
    """Where a signal stands; None when it has no order, or is gone.

    Those that hold back no others are left out: parked ones that are skipped, and signals that only have to be deleted.
    """
    if spec.order is None or connection.dialect.name != "postgresql":
        return None
    rows = _SameKey(connection, spec, key, has_parked_table=has_parked_table)
    if connection.execute(rows.own).first() is None:
        return None
    return Standing(rows.head() or "", rows.count(before=True), rows.count(before=False))


def behind_head(connection: Connection, spec: SignalSpec, key: Key, text: str) -> int | None:
    """How many signals wait behind this one; None when it is not the first of its key. Nothing is counted then.

    :param text: its key as text.
    """
    if spec.order is None or connection.dialect.name != "postgresql":
        return None
    rows = _SameKey(connection, spec, key, has_parked_table=True)
    return rows.count(before=False) if rows.head() == text else None


class _SameKey:
    """The signals that have the same key of the order as one of them."""

    def __init__(self, connection: Connection, spec: SignalSpec, key: Key, *, has_parked_table: bool) -> None:
        order = spec.order
        assert order is not None
        self._connection, self._spec, self._position = connection, spec, order.position
        own = select(*order.by, order.position).where(has_key(spec, connection.dialect, [key]))
        self.own = own.where(*(column.is_not(None) for column in order.by))
        self._this = this = self.own.subquery("signalbus_this")
        leave_out = LeaveOut.FAILED if has_parked_table else LeaveOut.NOTHING
        self._same = and_(*(column == this.c[column.name] for column in order.by))
        self._members = [
            self._same,
            *spec.is_signal,
            *not_passed_over(spec, leave_out, skips_parked=order.skips_parked),
        ]

    def _select(self, what: ColumnElement[Any]) -> Select[Any]:
        return select(what).select_from(self._spec.table.join(self._this, self._same)).where(*self._members)

    def head(self) -> str | None:
        """The one that is sent first, as text."""
        found: str | None = self._connection.scalar(
            self._select(text_of_key(self._spec)).order_by(self._position).limit(1)
        )
        return found

    def count(self, *, before: bool) -> int:
        place = self._this.c[self._position.name]
        some = self._select(literal(1)).where(self._position < place if before else self._position > place)
        return self._connection.scalar(select(func.count()).select_from(some.limit(MOST_COUNTED).subquery())) or 0
