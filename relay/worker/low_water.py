"""The low-water mark of a model: the key at which its scans start. Pure: the time is passed in.

Dead rows that vacuum cannot remove gather below the lowest signal, and a scan from the first key reads them all. So a
scan starts at the mark, the lowest key that was found last. Invariant: a signal below the mark, committed late or
rolled back by another relay, is found by the next scan from the start.
These scans take at most a tenth of the time: after one that took t, the next is due 10 t after its start. Only a NOTIFY
whose burst found nothing brings it sooner, 3 t after its start at the earliest. Workers and the poller share the mark.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from signalbus_core.lowlevel import FIRST_KEY

#: Scans from the start begin at an interval of so many times the duration of the last one. Larger: dead rows cost
#: less of a model's time; smaller: signals below the mark are found sooner.
COSTS_AT_MOST_ONE_IN = 10

#: After a burst from the mark on that found something, a signal below the mark may wait so long for a scan from the
#: start. Longer: fewer bursts that lock nothing; shorter: it is sent sooner.
BELOW_THE_MARK_SECONDS = 0.1

#: After a NOTIFY whose burst from the mark on found nothing, a scan from the start begins after so long. Shorter:
#: signals that are committed late are sent sooner, and more scans are from the start.
LATEST_SECONDS = 0.5

#: These scans begin at an interval of at least so many times the duration of the last one. Larger: they take less of a
#: model's time; smaller: signals that are committed late are sent sooner where there are many dead rows.
RUNG_COSTS_AT_MOST_ONE_IN = 3


@dataclass(frozen=True)
class Scan:
    """One statement that selects signals of a model in the order of their keys.

    :param start: the lowest key that it scans; None where there is no mark.
    :param is_deep: it begins at the first key, or at a key that such a scan has just found below the mark.
    :param lowered: how often the mark had been lowered when it began.
    :param given_up: how often the mark had been given up when it began.
    """

    start: int | None
    began_at: float
    is_deep: bool
    lowered: int
    given_up: int

    @property
    def sees_everything(self) -> bool:
        """Whether it scans every key."""
        return self.start in (None, FIRST_KEY)


class LowWater:
    """The mark of one model.

    :param is_kept: False for models whose keys are not single integers: all their scans begin at the start.
    """

    def __init__(self, *, is_kept: bool) -> None:
        #: Whether the model has a mark at all.
        self.is_kept = is_kept
        self._lock = threading.Lock()
        self._mark: int | None = None
        #: When the next scan from the start is due, and how long the last one took.
        self._due = float("-inf")
        self._took_seconds = 0.0
        #: When the last one began.
        self._deep_at = float("-inf")
        self._lowered = self._given_up = 0
        #: When the last scan of every key began that has ended.
        self._seen_at = float("-inf")
        self._is_deep_next = False
        self._left_to_workers_until = float("-inf")

    @property
    def mark(self) -> int | None:
        """The mark; None until a key was found."""
        with self._lock:
            return self._mark

    def begin(self, now: float, *, thorough: bool = False) -> Scan:
        """A scan begins.

        :param thorough: it must scan every key, whatever that costs.
        """
        with self._lock:
            if not self.is_kept:
                return self._scan(None, now, is_deep=True)
            if thorough or self._mark is None or now >= self._due:
                # Until this scan has ended, the duration of the last one decides when the next is due.
                self._deep_at = now
                self._due = now + COSTS_AT_MOST_ONE_IN * self._took_seconds
                return self._scan(FIRST_KEY, now, is_deep=True)
            is_deep, self._is_deep_next = self._is_deep_next, False
            return self._scan(self._mark, now, is_deep=is_deep)

    def record_scan(self, scan: Scan, lowest: object, took_seconds: float) -> None:
        """A scan has ended.

        :param lowest: the lowest key that it found; None when it found none.
        """
        with self._lock:
            if scan.sees_everything:
                self._seen_at = max(self._seen_at, scan.began_at)
            if scan.is_deep:
                self._took_seconds, self._deep_at = took_seconds, max(self._deep_at, scan.began_at)
                if scan.given_up == self._given_up:
                    self._due = scan.began_at + COSTS_AT_MOST_ONE_IN * took_seconds
            if lowest is not None:
                self._left_to_workers_until = float("-inf")
            if isinstance(lowest, int):
                self._move(scan, lowest)

    def failed(self, scan: Scan, took_seconds: float) -> bool:
        """A scan of the poller timed out; return whether there is no shorter one.

        If so, the model is not polled again until ten times its duration have passed, or a worker, which has a longer
        time limit, has found the lowest key.
        """
        with self._lock:
            rest_until = scan.began_at + COSTS_AT_MOST_ONE_IN * took_seconds
            if scan.is_deep:
                self._took_seconds, self._due = took_seconds, rest_until
            is_left_to_workers = self._mark is None or not scan.sees_everything
            if is_left_to_workers:
                self._left_to_workers_until = rest_until
            return is_left_to_workers

    def is_left_to_workers(self, now: float) -> bool:
        """Whether the poller must not poll the model now."""
        with self._lock:
            return now < self._left_to_workers_until

    def schedule_full_scan(self, since: float, now: float, *, found: bool) -> float | None:
        """A burst that a NOTIFY asked for has ended; return after how long a scan of every key is to come.

        None when one began since then, or every scan is one. Not to be called for other bursts: they would bring the
        scans of every key sooner than those may cost.

        :param found: the scan from the mark found something; else what was rung for is most likely below the mark.
        """
        with self._lock:
            if not self.is_kept or self._seen_at >= since:
                return None
            if not found:
                earliest = self._deep_at + RUNG_COSTS_AT_MOST_ONE_IN * self._took_seconds
                self._due = min(self._due, max(now + LATEST_SECONDS, earliest))
            return max(self._due - now, BELOW_THE_MARK_SECONDS if found else 0.0)

    def _move(self, scan: Scan, lowest: int) -> None:
        if self._mark is None or lowest < self._mark:
            self._is_deep_next = self._mark is not None
            self._lowered += 1
            self._mark = lowest
        elif scan.lowered == self._lowered:
            # Else another scan has meanwhile lowered the mark: raised now, it would skip what that scan found.
            self._mark = lowest

    def give_up(self, scan: Scan) -> None:
        """A burst failed, and its signals may be below the mark: the next scan begins at the start.

        Not when this one did so already: a scan from the start that times out would be repeated for ever.
        """
        with self._lock:
            if not scan.sees_everything:
                self._given_up += 1
                self._due = float("-inf")

    def _scan(self, start: int | None, now: float, *, is_deep: bool) -> Scan:
        return Scan(start, now, is_deep, self._lowered, self._given_up)
