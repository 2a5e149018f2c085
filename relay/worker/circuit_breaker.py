"""Tells a bad signal from bad code, or from something that is away, by what else of its model is sent. Pure.

Too many failures at once are nobody's own: while it is open, failed attempts do not count, so that a faulty release
parks no signals.
"""

from __future__ import annotations

from signalbus_core.lowlevel import BurstResult, Key

from .retry_policy import Evidence

#: So many signals have to fail, with no more than as many sent beside them, before the fault is looked for elsewhere.
#: Larger: a faulty release costs more signals an attempt; smaller: a few bad signals in a row look like a faulty one.
MANY_FAILURES = 5


class CircuitBreaker:
    """Opens when most of what is tried fails through the application's code, closes when signals are sent again."""

    def __init__(self) -> None:
        self.is_open = False
        self._failed: set[Key] = set()
        self._last_sent = float("-inf")

    def evidence(self, now: float) -> Evidence:
        """What is known at this time about the model as a whole."""
        return Evidence(self.is_open, now - self._last_sent)

    def record(self, result: BurstResult, now: float, *, is_retry: bool = False) -> None:
        """Learn from a burst.

        :param is_retry: of signals that failed before. When they fail again, that tells nothing of others.
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
            # Signals are counted, not attempts: one bad signal that is tried for ever is still one.
            self._failed |= faults
            self.is_open = len(self._failed) >= MANY_FAILURES
