"""The signals that are set aside, as the page shows them: asked for now and then, and never waited for long.

While a database is away, the page comes all the same, with what was known last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..parked_signals import as_json
from ..status import Status
from .http import HttpError
from .operations import Operations

#: What the page shows of them at most; the rest is a matter for the command.
MOST_SHOWN = 50

#: They are asked for anew when what is known is so old. Shorter: more statements while somebody looks at the page.
FRESH_FOR_SECONDS = 4.0

#: The page waits for the database no longer than this.
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class SetAsideShown:
    """What is known of them.

    :param problem: why it is not known, or not known well.
    """

    signals: tuple[dict[str, Any], ...] = ()
    more: bool = False
    problem: str | None = None


class SetAsideView:
    """Shows them.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, operations: Operations, status: Status, clock: Callable[[], float] = time.monotonic) -> None:
        self._operations = operations
        self._status = status
        self._clock = clock
        self._lock = threading.Lock()
        self._known = SetAsideShown()
        self._known_at = float("-inf")

    def forget(self) -> None:
        """What is known is not so any more."""
        self._known_at = float("-inf")

    def show(self) -> SetAsideShown:
        # The board says whether there are any: a page about a healthy relay costs no statement.
        if not self._status.set_aside_signals():
            return SetAsideShown()
        if self._clock() - self._known_at < FRESH_FOR_SECONDS or not self._lock.acquire(blocking=False):
            return self._known
        try:
            self._known = self._ask()
            self._known_at = self._clock()
        finally:
            self._lock.release()
        return self._known

    def _ask(self) -> SetAsideShown:
        try:
            found = self._operations.set_aside(None, None, MOST_SHOWN + 1, PATIENCE_SECONDS)
        except HttpError as error:
            return SetAsideShown(self._known.signals, self._known.more, f"Not up to date: {error}")
        return SetAsideShown(tuple(as_json(one) for one in found[:MOST_SHOWN]), len(found) > MOST_SHOWN)
