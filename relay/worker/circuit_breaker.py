"""The circuit breaker of a model: whether a failure is due to the signal or to the code. Pure: the time is passed in.

Invariant: while the breaker is open, failed tries do not count, so that a faulty release parks no signals.
"""

from __future__ import annotations

from signalbus_core.lowlevel import BurstResult, Key

from .retry_policy import Evidence

#: The breaker opens when so many signals have failed, and no burst has sent more signals than failed in it. Larger: a
#: faulty release costs more signals an attempt; smaller: a few bad signals in a row look like a faulty release.
MANY_FAILURES = 5


class CircuitBreaker:
    """Opens when most signals fail in the application's code, closes when signals are sent again."""

    def __init__(self) -> None:
        self.is_open = False
        self._failed: set[Key] = set()
        self._last_sent = float("-inf")

    def evidence(self, now: float) -> Evidence:
        """What is known now about the model as a whole."""
        return Evidence(self.is_open, now - self._last_sent)

    def record(self, result: BurstResult, now: float, *, is_retry: bool = False) -> None:
        """Learn from a burst.

        :param is_retry: its signals failed before. When they fail again, that says nothing about other signals.
        """
        if result.sent or result.undeleted:
            self._last_sent = now
        if result.is_outage:
            return
        faults = {failed.key for failed in result.failed if not failed.outcome.is_of_destination}
        if result.sent > len(faults):
            self._failed.clear()
            self.is_open = False
        elif not is_retry and not self.is_open:
            # Counts signals, not attempts: one bad signal that fails again and again counts once.
            self._failed |= faults
            self.is_open = len(self._failed) >= MANY_FAILURES
