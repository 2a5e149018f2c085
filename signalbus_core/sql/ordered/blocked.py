"""Which keys of a model failed signals hold back, and how many signals wait behind each: for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from ...model.contract import SignalSpec
from ...schema.own_tables import SKIPPED, UNDELETED, FailureRecord
from .. import parked
from .standing import standing


@dataclass(frozen=True)
class BlockedKey:
    """A key that a failed signal holds back.

    :param head: the key of that signal, as text.
    :param parked_since: since when it is parked; None while it waits for its next try.
    :param behind: how many signals wait behind it; counting stops at a limit.
    """

    head: str
    parked_since: datetime | None
    behind: int


def held_back(connection: Connection, spec: SignalSpec, record: FailureRecord) -> int | None:
    """How many signals a failed one holds back; None when it holds back none, because it is not the first of a key."""
    if spec.order is None:
        return None
    key = parked.keys_of(connection, spec, [record.key]).get(record.key)
    place = None if key is None else standing(connection, spec, key, has_parked_table=True)
    return place.behind if place is not None and place.head == record.key else None


def blocked_keys(connection: Connection, spec: SignalSpec, most: int) -> list[BlockedKey]:
    """The first keys of an ordered model that are held back, those of parked signals first."""
    found: list[BlockedKey] = []
    assert spec.order is not None
    for one in parked.list_failed(connection, spec, limit=most * 4):
        passes = one.error_class in (UNDELETED, SKIPPED) or (one.is_parked and spec.order.skips_parked)
        behind = None if passes or len(found) == most else held_back(connection, spec, one)
        if behind is not None:
            found.append(BlockedKey(one.key, one.last_failed_at if one.is_parked else None, behind))
    return found
