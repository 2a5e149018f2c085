"""Failed signals for the page, from a short-lived cache.

Invariant: the page never waits long for a database. While one is away, the page shows what was read last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from werkzeug.exceptions import HTTPException, NotFound

from ..operations.parked import as_json, group_as_json
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


#: The largest number of groups on the page.
MOST_GROUPS = 50


@dataclass(frozen=True)
class Shown:
    """Which failed signals are shown: by groups, all or those of a model; or a page of one group.

    :param page: its number, from 1 on.
    """

    model: str | None = None
    group: str | None = None
    page: int = 1


@dataclass(frozen=True)
class FailedSignalsPage:
    """Failed signals by groups, or a page of those of one group.

    :param more: there is a page after this one, or there are more groups.
    :param problem: why it could not be read, or is out of date.
    """

    shown: Shown = Shown()
    groups: tuple[dict[str, Any], ...] = ()
    signals: tuple[dict[str, Any], ...] = ()
    more: bool = False
    problem: str | None = None

    @property
    def page(self) -> int:
        return self.shown.page

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many signals of each model with a group are waiting and parked; empty where not all groups are known."""
        counted: dict[str, tuple[int, int]] = {}
        for one in () if self.more else self.groups:
            waiting, parked = counted.get(one["model"], (0, 0))
            is_parked = one["state"] == "parked"
            more = (waiting, parked + one["number"]) if is_parked else (waiting + one["number"], parked)
            counted[one["model"]] = more
        return counted

    @property
    def before(self) -> int:
        """How many signals come before those of this page."""
        return (self.page - 1) * MOST_SHOWN


class FailedSignalsCache:
    """Reads failed signals for the page, and caches them.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, operations: Operations, status: Status, clock: Callable[[], float] = time.monotonic) -> None:
        self._operations = operations
        self._status = status
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[Shown, tuple[FailedSignalsPage, float]] = {}

    def forget(self) -> None:
        """Drop the cached pages, because they have changed."""
        self._known = {shown: (page, float("-inf")) for shown, (page, _) in self._known.items()}

    def group(self, model: str, group: str) -> dict[str, Any] | None:
        """A group as the page shows it; None when it is not among those."""
        return next((one for one in self.show().groups if (one["model"], one["group"]) == (model, group)), None)

    def show(self, shown: Shown = Shown()) -> FailedSignalsPage:
        # The measured status says whether there are any: a page about a healthy relay costs no statement.
        if self._status.failed_signals() == 0:
            return FailedSignalsPage(shown)
        known, at = self._known.get(shown, (FailedSignalsPage(shown), float("-inf")))
        if self._clock() - at < FRESH_FOR_SECONDS:
            return known
        if not self._lock.acquire(blocking=False):
            is_known = known.signals or known.groups
            return known if is_known else replace(known, problem="Another request is using the database.")
        try:
            return self._keep(self._query(known))
        finally:
            self._lock.release()

    def _keep(self, page: FailedSignalsPage) -> FailedSignalsPage:
        others = [(shown, known) for shown, known in self._known.items() if shown != page.shown]
        self._known = dict([*others[1 - MOST_KEPT :], (page.shown, (page, self._clock()))])
        return page

    def _query(self, known: FailedSignalsPage) -> FailedSignalsPage:
        try:
            return self._groups(known) if known.shown.group is None else self._signals(known)
        except NotFound:
            # They were sent, or failed otherwise since.
            return FailedSignalsPage(known.shown)
        except HTTPException as error:
            return replace(known, problem=f"Not up to date: {error.description}")

    def _groups(self, known: FailedSignalsPage) -> FailedSignalsPage:
        found = self._operations.groups(known.shown.model, MOST_GROUPS + 1, PATIENCE_SECONDS)
        shown = tuple(group_as_json(one) for one in found[:MOST_GROUPS])
        return FailedSignalsPage(known.shown, groups=shown, more=len(found) > MOST_GROUPS)

    def _signals(self, known: FailedSignalsPage) -> FailedSignalsPage:
        first, end = known.before, known.before + MOST_SHOWN
        of = known.shown
        found = self._operations.failed_signals(of.model, end + 1, PATIENCE_SECONDS, of.group)
        return FailedSignalsPage(of, signals=tuple(map(as_json, found[first:end])), more=len(found) > end)
