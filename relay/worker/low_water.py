"""The low-water mark of a model: from which key on its signals are looked for. Pure: the time is passed in.

Dead rows that something keeps alive gather below the lowest signal, and a scan from the first key passes over them all.
So a scan begins at the mark, the lowest key that was seen last. What is below the mark all the same, because it was
committed late or given back by another relay, is found by the next scan from the start. These scans cost no more than a
tenth of the time: each is followed by the next within ten times what it took. Workers and the poller share the mark.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from signalbus_core.lowlevel import FIRST_KEY

#: From the begin of one scan from the start to that of the next it is so many times what the first one took. More: dead
#: rows cost less of a model's time; less: signals below the mark are found sooner.
COSTS_AT_MOST_ONE_IN = 10


@dataclass(frozen=True)
class Scan:
    """One statement that looks for signals of a model in the order of their keys.

    :param start: the lowest key that it looks at; None where there is no mark.
    :param is_deep: it begins at the first key, or where such a scan has just found something, far below the mark.
    :param lowered: how often the mark had been lowered when it began.
    :param given_up: how often the mark had been given up then.
    """

    start: int | None
    began_at: float
    is_deep: bool
    lowered: int
    given_up: int

    @property
    def sees_everything(self) -> bool:
        """Whether it looks at every key."""
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
        #: When the next scan from the start is due, and what the last one took.
        self._due = float("-inf")
        self._took_seconds = 0.0
        self._lowered = self._given_up = 0
        self._is_deep_next = False
        self._blind_until = float("-inf")

    @property
    def mark(self) -> int | None:
        """The mark; None while no key has been seen."""
        with self._lock:
            return self._mark

    def begin(self, now: float, *, thorough: bool = False) -> Scan:
        """A scan begins.

        :param thorough: it must see every key, whatever that costs.
        """
        with self._lock:
            if not self.is_kept:
                return self._scan(None, now, is_deep=True)
            if thorough or self._mark is None or now >= self._due:
                # Until this one has ended, the others go by what the last one took.
                self._due = now + COSTS_AT_MOST_ONE_IN * self._took_seconds
                return self._scan(FIRST_KEY, now, is_deep=True)
            is_deep, self._is_deep_next = self._is_deep_next, False
            return self._scan(self._mark, now, is_deep=is_deep)

    def saw(self, scan: Scan, lowest: object, took_seconds: float) -> None:
        """A scan has ended.

        :param lowest: the lowest key that it found; None when it found none.
        """
        with self._lock:
            if scan.is_deep:
                self._took_seconds = took_seconds
                if scan.given_up == self._given_up:
                    self._due = scan.began_at + COSTS_AT_MOST_ONE_IN * took_seconds
            if lowest is not None:
                self._blind_until = float("-inf")
            if isinstance(lowest, int):
                self._move(scan, lowest)

    def failed(self, scan: Scan, took_seconds: float) -> bool:
        """A scan of the poller was given up, because it took too long; return whether there is no shorter one.

        Then the model is not to be looked at again before ten times what it took have passed, or a worker, which may
        take longer, has found the lowest key.
        """
        with self._lock:
            rest_until = scan.began_at + COSTS_AT_MOST_ONE_IN * took_seconds
            if scan.is_deep:
                self._took_seconds, self._due = took_seconds, rest_until
            is_blind = self._mark is None or not scan.sees_everything
            if is_blind:
                self._blind_until = rest_until
            return is_blind

    def is_blind(self, now: float) -> bool:
        """Whether the poller is to leave the model alone."""
        with self._lock:
            return now < self._blind_until

    def _move(self, scan: Scan, lowest: int) -> None:
        if self._mark is None or lowest < self._mark:
            self._is_deep_next = self._mark is not None
            self._lowered += 1
            self._mark = lowest
        elif scan.lowered == self._lowered:
            # Else another scan has meanwhile found what this one, which began earlier, passed by.
            self._mark = lowest

    def give_up(self, scan: Scan) -> None:
        """A burst failed, and what it locked may be below the mark: begin at the start.

        After a burst that did so already, not at once: a scan that takes longer than it may would fail for ever.
        """
        with self._lock:
            if not scan.sees_everything:
                self._given_up += 1
                self._due = float("-inf")

    def _scan(self, start: int | None, now: float, *, is_deep: bool) -> Scan:
        return Scan(start, now, is_deep, self._lowered, self._given_up)
