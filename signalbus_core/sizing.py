"""How many signals the next burst of a model takes. Pure: no database, no clock.

Halving finds the one signal that its send method, or the broker, cannot bear: a burst that fails as a whole is tried
again at half the size, until the signal is alone and can be set aside; then the size doubles back with each burst
whose signals were answered for, in whatever way. A burst that takes long is made smaller as well, because its row locks
and its transaction have limits. None takes more signals than memory should hold.
"""

from __future__ import annotations

from .heartbeat import LONG_SEND_SECONDS
from .result import BurstResult
from .weight import BurstWeight


class BurstSize:
    """The size of a model's next burst.

    :param largest: the model's burst count; the size never passes it.
    :param long_seconds: sending a burst should not take longer.
    :param weight: what the model's bursts weigh.
    """

    def __init__(
        self, largest: int, long_seconds: float = LONG_SEND_SECONDS, weight: BurstWeight | None = None
    ) -> None:
        self.largest = largest
        self._steps = largest
        self._long_seconds = long_seconds
        self._weight = weight or BurstWeight()

    @property
    def limit(self) -> int:
        """The most signals that the next burst takes."""
        return min(self._steps, self._weight.most_signals(self.largest))

    @property
    def bytes_to_ask(self) -> int | None:
        """The most bytes of rows that it takes, asked before they are read; None where sizes need not be asked."""
        return self._weight.bytes_to_ask if self.limit > 1 else None

    @property
    def is_whole(self) -> bool:
        """Whether no trouble of earlier bursts makes it smaller."""
        return self._steps == self.largest

    def record(self, result: BurstResult) -> None:
        """Learn from what a burst of :attr:`limit` signals did."""
        self._weight.record(result)
        if result.is_outage:
            self.shrink()
        elif result.failed_whole or result.has_unmentioned or result.send_seconds > self._long_seconds:
            self._steps = max(1, min(self._steps, result.selected) // 2)
        elif (result.sent or result.failed or result.undeleted) and result.send_seconds * 2 <= self._long_seconds:
            self._steps = min(self.largest, self._steps * 2)

    def shrink(self) -> None:
        """Go on with a single signal, to find out whether an outage is over at the least cost."""
        self._steps = 1
