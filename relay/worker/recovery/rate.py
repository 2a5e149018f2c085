"""The highest rate of a model in this process: a token bucket. Pure: the time is passed in.

Each burst takes tokens for as many signals as it may have, and gives back those that it did not need. A burst that
begins without tokens, because another worker has taken them, takes one that is paid later: the average stays.
"""

from __future__ import annotations

#: The bucket holds what comes in so many seconds. Longer: larger bursts, which cost less; shorter: a smoother rate.
BUCKET_SECONDS = 0.1


class RateLimit:
    """The rate limit of one model.

    :param per_second: None for no limit.
    """

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._most = 0.0 if per_second is None else max(1.0, per_second * BUCKET_SECONDS)
        self._tokens = self._most
        self._at = float("-inf")

    def take(self, limit: int, now: float) -> int:
        """The number of signals that a burst may have, ``limit`` at most, and one at least."""
        if self._per_second is None:
            return limit
        self._fill(now)
        taken = max(1, min(limit, int(self._tokens)))
        self._tokens -= taken
        return taken

    def give_back(self, unused: int) -> None:
        """A burst had so many signals less than it had taken tokens for."""
        if self._per_second is not None:
            self._tokens = min(self._most, self._tokens + unused)

    def wait_seconds(self, now: float) -> float:
        """How long until the next burst may begin."""
        if self._per_second is None:
            return 0.0
        self._fill(now)
        # With a full bucket bursts are as large as the rate allows.
        missing = self._most - self._tokens
        return missing / self._per_second if self._tokens < 1 else 0.0

    def _fill(self, now: float) -> None:
        assert self._per_second is not None
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self._per_second)
        self._at = max(self._at, now)
