"""Tells a bad signal from bad code, or a bad broker: too many failures at once are nobody's own. Pure.

While it is open, failed attempts do not count, so that a faulty release parks no signals.
"""

from __future__ import annotations

from signalbus_core import BurstResult

#: So many signals have to fail, with no more than as many sent beside them, before the fault is looked for elsewhere.
#: Larger: a faulty release costs more signals an attempt; smaller: a few bad signals in a row look like a faulty one.
MANY_FAILURES = 5


class Breaker:
    """Opens when most of what is tried fails through the application's code, closes when signals are sent again."""

    def __init__(self) -> None:
        self.is_open = False
        self._failed_in_a_row = 0

    def record(self, result: BurstResult) -> None:
        """Learn from a burst that was no outage."""
        faults = sum(not failed.outcome.is_of_destination for failed in result.failed)
        if result.sent > faults:
            self._failed_in_a_row = 0
            self.is_open = False
            return
        self._failed_in_a_row += faults
        if self._failed_in_a_row >= MANY_FAILURES:
            self.is_open = True
