"""How much a burst's messages weigh: said by whoever encodes them, to whoever called the send method.

A sender that says nothing is not weighed. What is said in another thread than the burst's is heard by nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..model.heartbeat import LONG_SEND_SECONDS
from .result import BurstResult


class Scale:
    """Adds up what is said while it is listening; None as long as nothing was said."""

    def __init__(self) -> None:
        self.message_bytes: int | None = None


_listening: ContextVar[Scale | None] = ContextVar("signalbus_scale", default=None)


@contextmanager
def weighing() -> Iterator[Scale]:
    """Hear what is said in the block."""
    scale = Scale()
    token = _listening.set(scale)
    try:
        yield scale
    finally:
        _listening.reset(token)


def weigh(message_bytes: int) -> None:
    """Say that so many bytes of messages are about to be sent."""
    scale = _listening.get()
    if scale is not None:
        scale.message_bytes = (scale.message_bytes or 0) + message_bytes


#: The messages of a burst make no more bytes than so, if its signals weigh what the last ones did. Larger: more memory
#: for each worker, and little speed, because a burst of so many bytes hardly notices its round trips.
MOST_BYTES = 16 * 1024 * 1024

#: So many signals of a model are taken of which nothing is known yet.
FIRST_SIGNALS = 50

#: A burst has no more signals than so many times those of the largest that was weighed.
GROWTH = 8

#: Signals whose messages weigh more are large: how large the next ones are is asked before they are read.
LARGE_BYTES = 64 * 1024

#: After so many bursts of a table without large rows it is asked again whether it has some. Less: more statements.
ASK_EVERY = 100

#: Of so many bursts the heaviest signals count, so that a light burst in between does not make the next one too heavy.
REMEMBERED = 4


class BurstWeight:
    """What the bursts of a model have weighed so far.

    :param most_bytes: the messages of a burst should not be heavier.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes_of_a_signal: deque[float] = deque(maxlen=REMEMBERED)
        self._most_weighed = 0
        self._is_weighed = True
        # None as long as nothing is known of the table.
        self._has_large_rows: bool | None = None
        self._not_asked = 0

    @property
    def bytes_to_ask(self) -> int | None:
        """The most bytes of rows that the next burst takes, asked before it reads them; None where it need not ask."""
        is_light = self._has_large_rows is False and max(self._bytes_of_a_signal, default=0.0) < LARGE_BYTES
        return None if is_light and self._not_asked < ASK_EVERY else self._most_bytes

    def most_signals(self, largest: int) -> int:
        """The most signals that the next burst may take; never above ``largest``, and at least one."""
        if not self._is_weighed:
            return largest
        if not self._bytes_of_a_signal:
            return min(largest, FIRST_SIGNALS)
        by_bytes = int(self._most_bytes / max(1.0, *self._bytes_of_a_signal))
        return max(1, min(largest, by_bytes, max(FIRST_SIGNALS, self._most_weighed * GROWTH)))

    def record(self, result: BurstResult) -> None:
        """Learn from what a burst weighed."""
        self._not_asked += 1
        if result.has_large_rows is not None:
            self._has_large_rows, self._not_asked = result.has_large_rows, 0
        if not result.selected:
            return
        if result.message_bytes is None:
            # Its sender tells nothing, unless it did not come to that.
            came_to_that = result.sent or any(failed.outcome.is_of_destination for failed in result.failed)
            self._is_weighed = self._is_weighed and (bool(self._bytes_of_a_signal) or not came_to_that)
            return
        self._is_weighed = True
        self._bytes_of_a_signal.append(result.message_bytes / result.selected)
        self._most_weighed = max(self._most_weighed, result.selected)


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
