"""Failed signals for the page, from a short-lived cache.

Invariant: the page never waits long for a database. While one is away, the page shows what was read last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from werkzeug.exceptions import HTTPException

from ..operations.parked import as_json
from ..telemetry.status import Status
from .actions import Operations
from .validation import LAST_OFFSET

#: The largest number of signals on one page. Larger: longer pages, fewer of them.
MOST_SHOWN = 50

#: The last page that can be requested.
LAST_PAGE = LAST_OFFSET // MOST_SHOWN + 1

#: The number of cached pages. Larger: more people can view different pages without more statements.
MOST_KEPT = 8

#: A cached page is read again after so long. Shorter: more statements while somebody views the page.
FRESH_FOR_SECONDS = 4.0

#: The page waits for the database no longer than this.
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class FailedSignalsPage:
    """A page of failed signals.

    :param page: its number, from 1 on.
    :param more: there is a page after this one.
    :param problem: why it could not be read, or is out of date.
    """

    page: int = 1
    signals: tuple[dict[str, Any], ...] = ()
    more: bool = False
    problem: str | None = None

    @property
    def before(self) -> int:
        """How many signals come before those of this page."""
        return (self.page - 1) * MOST_SHOWN


class FailedSignalsView:
    """Reads pages of failed signals, and caches them.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, operations: Operations, status: Status, clock: Callable[[], float] = time.monotonic) -> None:
        self._operations = operations
        self._status = status
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[int, tuple[FailedSignalsPage, float]] = {}

    def forget(self) -> None:
        """Drop the cached pages, because they have changed."""
        self._known = {page: (shown, float("-inf")) for page, (shown, _) in self._known.items()}

    def show(self, page: int = 1) -> FailedSignalsPage:
        """A page of failed signals, from 1 on."""
        # The measured status says whether there are any: a page about a healthy relay costs no statement.
        if not self._status.failed_signals():
            return FailedSignalsPage()
        known, at = self._known.get(page, (FailedSignalsPage(page), float("-inf")))
        if self._clock() - at < FRESH_FOR_SECONDS:
            return known
        if not self._lock.acquire(blocking=False):
            return known if known.signals else replace(known, problem="Another request is using the database.")
        try:
            return self._keep(self._query(known))
        finally:
            self._lock.release()

    def _keep(self, shown: FailedSignalsPage) -> FailedSignalsPage:
        others = [(page, known) for page, known in self._known.items() if page != shown.page]
        self._known = dict([*others[1 - MOST_KEPT :], (shown.page, (shown, self._clock()))])
        return shown

    def _query(self, known: FailedSignalsPage) -> FailedSignalsPage:
        first, end = known.before, known.before + MOST_SHOWN
        try:
            found = self._operations.failed_signals(None, None, end + 1, PATIENCE_SECONDS)
        except HTTPException as error:
            return replace(known, problem=f"Not up to date: {error.description}")
        return FailedSignalsPage(known.page, tuple(as_json(one) for one in found[first:end]), len(found) > end)
