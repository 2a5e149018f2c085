"""Where nothing can be kept at the moment, and why: there, what was sent is only deleted, as without a history.

A history must never be in the way of sending. After a move has failed, it is not tried again for a minute, so that a
locked or broken table costs one burst its time, and not each.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from sqlalchemy import Table
from sqlalchemy.engine import Engine

logger = logging.getLogger("signalbus")

#: For so long nothing is kept after a move has failed. Longer: more signals are missing from the history; shorter: more
#: bursts wait for a locked table.
SUSPENDED_SECONDS = 60.0


@dataclass(frozen=True)
class _Suspension:
    reason: str
    until: float


_lock = threading.Lock()
_suspended: WeakKeyDictionary[Engine, dict[str, _Suspension]] = WeakKeyDictionary()


def suspend(engine: Engine, table: Table, reason: str) -> None:
    """Keep nothing in this table for a minute."""
    with _lock:
        of_engine = _suspended.setdefault(engine, {})
        before = of_engine.get(table.fullname)
        of_engine[table.fullname] = _Suspension(reason, time.monotonic() + SUSPENDED_SECONDS)
    if before is None or before.reason != reason:
        logger.warning(
            "What is sent is not kept in %s at the moment: %s. Signals are sent as without a history.",
            table.fullname,
            reason,
            extra={"action": "history_suspended"},
        )


def resume(engine: Engine, table: Table) -> None:
    """Keep what is sent in this table again."""
    with _lock:
        _suspended.get(engine, {}).pop(table.fullname, None)


def why_suspended(engine: Engine, table: Table) -> str | None:
    """Why nothing is kept in this table at the moment; None when it is."""
    with _lock:
        found = _suspended.get(engine, {}).get(table.fullname)
    return None if found is None or time.monotonic() >= found.until else found.reason
