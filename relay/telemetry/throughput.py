"""Signals sent in the last minutes, counted in buckets of a few seconds. Pure: the time is passed in."""

from __future__ import annotations

#: The width of a bucket, which is one bar of a chart. Shorter: finer charts, more numbers.
BUCKET_SECONDS = 5.0

#: The number of buckets: ten minutes.
BUCKETS = 120

#: The rate is taken from so many whole buckets. Larger: smoother, slower to react.
RATE_BUCKETS = 3


class Throughput:
    """Counts of the last minutes, in a ring buffer.

    :param now: the time at which counting begins.
    """

    def __init__(self, now: float) -> None:
        self._began = now
        self._counts = [0] * (BUCKETS + 1)
        self._current = 0

    def add(self, number: int, now: float) -> None:
        self._advance(now)
        self._counts[self._current % len(self._counts)] += number

    def counts(self, now: float) -> list[int]:
        """The counts of the whole buckets, oldest first, without the current one."""
        self._advance(now)
        size = len(self._counts)
        return [self._counts[(self._current + 1 + offset) % size] for offset in range(BUCKETS)]

    def per_second(self, now: float) -> float:
        """The rate of the last whole buckets."""
        return sum(self.counts(now)[-RATE_BUCKETS:]) / (RATE_BUCKETS * BUCKET_SECONDS)

    def _advance(self, now: float) -> None:
        target = max(self._current, int((now - self._began) / BUCKET_SECONDS))
        size = len(self._counts)
        # After a long silence each bucket is cleared only once.
        for bucket in range(max(self._current + 1, target - size + 1), target + 1):
            self._counts[bucket % size] = 0
        self._current = target
