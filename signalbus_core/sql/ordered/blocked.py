"""Which keys of a model failed signals hold back, and how many signals wait behind each: for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from ...model.contract import SignalSpec
from ...schema.own_tables import SKIPPED, UNDELETED, FailureRecord
from .. import parked
from .standing import behind_head


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
    key = None if spec.order is None else parked.keys_of(connection, spec, [record.key]).get(record.key)
    return None if key is None else behind_head(connection, spec, key, record.key)


def blocked_keys(connection: Connection, spec: SignalSpec, most: int) -> list[BlockedKey]:
    """The first keys of an ordered model that are held back, those of parked signals first."""
    order = spec.order
    assert order is not None
    blocking = [
        one
        for one in parked.list_failed(connection, spec, limit=most * 4)
        if one.error_class not in (UNDELETED, SKIPPED) and not (one.is_parked and order.skips_parked)
    ]
    # Of one key, several may have failed: some more are looked at than named.
    texts = [one.key for one in blocking[: most * 2]]
    keys = parked.keys_of(connection, spec, texts)
    found: list[BlockedKey] = []
    for one in blocking[: most * 2]:
        behind = behind_head(connection, spec, keys[one.key], one.key) if one.key in keys else None
        if behind is not None:
            found.append(BlockedKey(one.key, one.last_failed_at if one.is_parked else None, behind))
        if len(found) == most:
            break
    return found
