"""New signals are not starved by a backlog: while there is one, every other burst takes them. Pure.

A full burst is the sign of a backlog. The next burst takes the signal with the highest key: what is above it is new,
and every other burst from then on scans from there. The start of these scans follows what they find, a second behind:
signals that are committed out of the order of their keys are still found, and few dead rows are read.

Signals below that start are never forgotten: the other bursts scan as usual, from the low-water mark on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: The start follows what scans have found so many seconds ago. Longer: transactions that commit later than others with
#: higher keys count as new for longer; shorter: fewer dead rows are read.
BEHIND_SECONDS = 1.0

#: While a burst of the backlog takes longer, the next one is half as large: new signals wait for it.
BACKLOG_BURST_SECONDS = 0.05

#: They have no fewer signals than these: much of the time of a smaller burst is the same for any number.
LEAST_SIGNALS = 50


@dataclass(frozen=True)
class FreshScan:
    """A burst of new signals.

    :param start: the lowest key that counts as new; None: take the highest key of all.
    """

    start: int | None


class FreshFirst:
    """Decides which bursts of a model take new signals.

    :param is_on: False: none does.
    """

    def __init__(self, *, is_on: bool = False) -> None:
        self._is_on = is_on
        self._has_backlog = False
        self._is_turn = False
        self._start: int | None = None
        self._found: deque[tuple[float, int]] = deque()
        self._most: int | None = None

    def next_scan(self) -> FreshScan | None:
        """The scan of the next burst; None for the usual one."""
        if not self._is_on or not self._has_backlog:
            return None
        self._is_turn = not self._is_turn
        return FreshScan(self._start) if self._is_turn else None

    def limit(self, limit: int, scan: FreshScan | None) -> int:
        """The number of signals that the next burst may have."""
        if scan is not None:
            return limit if scan.start is not None else 1
        return limit if self._most is None else min(limit, max(self._most, LEAST_SIGNALS))

    def scanned(self, scan: FreshScan, lowest: object, now: float) -> None:
        """A burst of new signals has ended.

        :param lowest: the lowest key that it found; None when it found none.
        """
        if not isinstance(lowest, int):
            return
        if scan.start is None:
            self._start = max(lowest + 1, self._start or lowest + 1)
            return
        self._found.append((now, lowest))
        while self._found and self._found[0][0] <= now - BEHIND_SECONDS:
            _, seen = self._found.popleft()
            self._start = max(self._start or seen, seen)

    def sent(self, signals: int, seconds: float, *, has_more: bool) -> None:
        """A usual burst has ended.

        :param has_more: it was full, so there is a backlog.
        """
        if not self._is_on:
            return
        if not has_more:
            self._most = None
        elif seconds > BACKLOG_BURST_SECONDS:
            self._most = signals // 2
        elif self._most is not None and seconds < BACKLOG_BURST_SECONDS / 2:
            self._most *= 2
        if self._has_backlog and not has_more:
            self._start = None
            self._found.clear()
        self._has_backlog = has_more
