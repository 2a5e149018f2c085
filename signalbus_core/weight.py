"""How many signals of a model a burst can hold without becoming too heavy. Pure: no messages, no clock.

All messages of a burst are in memory at once. What the signals of a model weigh is known when some were sent: the first
burst is small, and the next ones grow fast for as long as they stay light. Nothing can be said of the signals of a
sender that does not tell what they weigh.
"""

from __future__ import annotations

from collections import deque

from .result import BurstResult

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
