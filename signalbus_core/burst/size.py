"""The size of bursts, limited by count, by the time that sending takes, and by the size of rows and messages.

The publisher reports the size of messages to the burst. Without such a report it is unknown.
"""

from __future__ import annotations

from collections import deque

from ..model.sending.progress import LONG_SEND_SECONDS
from .result import BurstResult

#: The target for the message size of a burst, estimated from the last bursts. Larger: more memory for each worker, and
#: little speed, because round trips hardly matter to a burst of this size.
MOST_BYTES = 16 * 1024 * 1024

#: The first burst of a model, whose message size is still unknown, has so many signals.
FIRST_SIGNALS = 50

#: A burst has at most so many times the signals of the largest burst with a known message size.
GROWTH = 8

#: Of so many bursts, the one with the largest signals counts, so that one of small signals does not enlarge the next.
REMEMBERED = 4


class MessageSizes:
    """The message sizes of a model's recent bursts.

    :param most_bytes: the target for the message size of a burst.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes_of_a_signal: deque[float] = deque(maxlen=REMEMBERED)
        self._most_measured = 0
        self._is_measured = True

    def most_signals(self, largest: int) -> int:
        """The most signals that the next burst may take; never above ``largest``, and at least one."""
        if not self._is_measured:
            return largest
        if not self._bytes_of_a_signal:
            return min(largest, FIRST_SIGNALS)
        by_bytes = int(self._most_bytes / max(1.0, *self._bytes_of_a_signal))
        return max(1, min(largest, by_bytes, max(FIRST_SIGNALS, self._most_measured * GROWTH)))

    def record(self, result: BurstResult) -> None:
        """Record the message size of a burst."""
        if not result.selected:
            return
        if result.message_bytes is None:
            # Its sender reports no message size, unless it failed before.
            has_sent = result.sent or any(failed.outcome.is_of_destination for failed in result.failed)
            self._is_measured = self._is_measured and (bool(self._bytes_of_a_signal) or not has_sent)
            return
        self._is_measured = True
        self._bytes_of_a_signal.append(result.message_bytes / result.selected)
        self._most_measured = max(self._most_measured, result.selected)


class BurstSize:
    """The size of a model's next burst.

    :param largest: the model's burst count; the size never exceeds it.
    :param long_seconds: sending a burst should not take longer.
    :param sizes: the message sizes of the model's bursts.
    """

    def __init__(
        self, largest: int, long_seconds: float = LONG_SEND_SECONDS, sizes: MessageSizes | None = None
    ) -> None:
        self.largest = largest
        self._steps = largest
        self._long_seconds = long_seconds
        self._sizes = sizes or MessageSizes()

    @property
    def limit(self) -> int:
        """The most signals that the next burst takes."""
        return min(self._steps, self._sizes.most_signals(self.largest))

    @property
    def is_whole(self) -> bool:
        """Whether no failure of earlier bursts makes it smaller."""
        return self._steps == self.largest

    def record(self, result: BurstResult) -> None:
        """Record the result of a burst of :attr:`limit` signals."""
        self._sizes.record(result)
        if result.is_outage:
            self.shrink()
        elif result.failed_whole or result.has_unmentioned or result.send_seconds > self._long_seconds:
            self._steps = max(1, min(self._steps, result.selected) // 2)
        elif (result.sent or result.failed or result.undeleted) and result.send_seconds * 2 <= self._long_seconds:
            self._steps = min(self.largest, self._steps * 2)

    def shrink(self) -> None:
        """Continue with a single signal, the cheapest way to find out whether an outage is over."""
        self._steps = 1
