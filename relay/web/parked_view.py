"""The signals that are set aside, as the page shows them: asked for now and then, and never waited for long.

While a database is away, the page comes all the same, with what was known last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..operations.parked import as_json
from ..telemetry.status import Status
from .actions import Operations
from .http import HttpError
from .validation import LAST_OFFSET

#: What one page shows of them at most. More: longer pages, fewer of them.
MOST_SHOWN = 50

#: The last page that can be asked for.
LAST_PAGE = LAST_OFFSET // MOST_SHOWN + 1

#: So many pages are kept. More: more people can look at different ones without asking the database more often.
MOST_KEPT = 8

#: They are asked for anew when what is known is so old. Shorter: more statements while somebody looks at the page.
FRESH_FOR_SECONDS = 4.0

#: The page waits for the database no longer than this.
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class SetAsideShown:
    """What is known of them.

    :param page: which part of them it is, from 1 on.
    :param more: there is a page after this one.
    :param problem: why it is not known, or not known well.
    """

    page: int = 1
    signals: tuple[dict[str, Any], ...] = ()
    more: bool = False
    problem: str | None = None

    @property
    def before(self) -> int:
        """How many come before those of this page."""
        return (self.page - 1) * MOST_SHOWN


class SetAsideView:
    """Shows them.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, operations: Operations, status: Status, clock: Callable[[], float] = time.monotonic) -> None:
        self._operations = operations
        self._status = status
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[int, tuple[SetAsideShown, float]] = {}

    def forget(self) -> None:
        """What is known is not so any more."""
        self._known = {page: (shown, float("-inf")) for page, (shown, _) in self._known.items()}

    def show(self, page: int = 1) -> SetAsideShown:
        """A page of them, from 1 on."""
        # The board says whether there are any: a page about a healthy relay costs no statement.
        if not self._status.set_aside_signals():
            return SetAsideShown()
        known, at = self._known.get(page, (SetAsideShown(page), float("-inf")))
        if self._clock() - at < FRESH_FOR_SECONDS:
            return known
        if not self._lock.acquire(blocking=False):
            return known if known.signals else replace(known, problem="The relay is asking the database.")
        try:
            return self._keep(self._ask(known))
        finally:
            self._lock.release()

    def _keep(self, shown: SetAsideShown) -> SetAsideShown:
        others = [(page, known) for page, known in self._known.items() if page != shown.page]
        self._known = dict([*others[1 - MOST_KEPT :], (shown.page, (shown, self._clock()))])
        return shown

    def _ask(self, known: SetAsideShown) -> SetAsideShown:
        first, end = known.before, known.before + MOST_SHOWN
        try:
            found = self._operations.set_aside(None, None, end + 1, PATIENCE_SECONDS)
        except HttpError as error:
            return replace(known, problem=f"Not up to date: {error}")
        return SetAsideShown(known.page, tuple(as_json(one) for one in found[first:end]), len(found) > end)
