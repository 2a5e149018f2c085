"""Where a signal stands among those of its key: for people, never for bursts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, literal, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql import Select

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
    order = spec.order
    if order is None or connection.dialect.name != "postgresql":
        return None
    own = select(*order.by, order.position).where(has_key(spec, connection.dialect, [key]))
    own = own.where(*(column.is_not(None) for column in order.by))
    this = own.subquery("signalbus_this")
    leave_out = LeaveOut.FAILED if has_parked_table else LeaveOut.NOTHING
    same_key = and_(*(column == this.c[column.name] for column in order.by))
    members = [
        same_key,
        *spec.is_signal,
        *not_passed_over(spec, leave_out, skips_parked=order.skips_parked),
    ]
    place = this.c[order.position.name]

    def counted(rows: Select[Any]) -> int:
        some = rows.limit(MOST_COUNTED).subquery()
        return connection.scalar(select(func.count()).select_from(some)) or 0

    others = select(literal(1)).select_from(spec.table.join(this, same_key)).where(*members)
    heads = select(text_of_key(spec)).select_from(spec.table.join(this, same_key)).where(*members)
    if connection.execute(own).first() is None:
        return None
    head = connection.scalar(heads.order_by(order.position).limit(1))
    before, behind = counted(others.where(order.position < place)), counted(others.where(order.position > place))
    return Standing(head or "", before, behind)
