"""How many signals the next burst of a model takes. Pure: no database, no clock.

Halving finds the one signal that its send method cannot bear: a burst that fails as a whole is tried again at half
the size, until the signal is alone and can be set aside; then the size doubles back with each success.
"""

from __future__ import annotations

from .burst import BurstResult
from .outcome import OutcomeKind


class BurstSize:
    """The size of a model's next burst.

    :param largest: the model's burst count; the size never passes it.
    """

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.limit = largest

    def record(self, result: BurstResult) -> None:
        """Learn from what a burst of :attr:`limit` signals did."""
        if is_outage(result):
            self.shrink()
        elif failed_whole(result):
            self.limit = max(1, min(self.limit, result.selected) // 2)
        elif result.sent:
            self.limit = min(self.largest, self.limit * 2)

    def shrink(self) -> None:
        """Go on with a single signal, to find out whether an outage is over at the least cost."""
        self.limit = 1


def is_outage(result: BurstResult) -> bool:
    """Whether the broker left some message of the burst without an answer."""
    return any(failed.outcome.cause == OutcomeKind.UNKNOWN.value for failed in result.failed)


def failed_whole(result: BurstResult) -> bool:
    """Whether the send method failed on several signals, and nothing is known about any of them."""
    return result.error is not None and result.selected > 1 and not result.sent and not result.failed
