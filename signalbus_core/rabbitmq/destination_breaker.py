"""A circuit breaker for destinations that do not confirm while others do, such as a quorum queue without a majority.

Pure bookkeeping. A message for such a destination would use up the whole time of its burst. So while the destination is
known to be silent, only one trial message at a time is sent to it. When nothing at all is confirmed, that is an outage:
a destination counts as silent only when others were confirmed in that time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

Address = tuple[str, str]

#: The wait before the first trial message; it doubles after each further silence.
FIRST_WAIT_SECONDS = 5.0

#: The longest wait. Longer: fewer duplicates of a message that may be stored, and a later recovery.
LONGEST_WAIT_SECONDS = 300.0

#: The longest wait for the confirm of a trial message.
TRIAL_SECONDS = 3.0

#: So many silent destinations are remembered.
MOST_REMEMBERED = 1000


def named(address: Address) -> str:
    """A destination, for people."""
    return f"exchange {address[0]!r}, routing key {address[1]!r}"


@dataclass(frozen=True)
class _Silence:
    noticed: float
    times: int
    next_try: float
    is_its_own: bool


class DestinationBreaker:
    """The silent destinations, shared by the threads of a publisher.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._silences: dict[Address, _Silence] = {}
        self._last_answer = float("-inf")

    @property
    def any_remembered(self) -> bool:
        """Whether any silent destination is remembered."""
        return bool(self._silences)

    def now(self) -> float:
        """The time, for :meth:`record_silence`."""
        return self._clock()

    def answered(self, addresses: Collection[Address]) -> None:
        """Record that the broker answered for messages to these destinations."""
        if not addresses:
            return
        with self._lock:
            self._last_answer = self._clock()
            for address in self._silences.keys() & set(addresses):
                del self._silences[address]

    def record_silence(self, addresses: Collection[Address], since: float) -> None:
        """Record that the time ran out without an answer for messages to these destinations.

        :param since: when they were sent. An answer for others since then, or since an earlier silence, proves that
          there is no outage. A later answer proves nothing: the outage may have ended in between.
        """
        now = self._clock()
        with self._lock:
            for address in addresses:
                before = self._silences.pop(address, None)
                times = before.times + 1 if before else 1
                wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(times - 1, 30))
                noticed = before.noticed if before else now
                is_its_own = self._last_answer >= since or (before is not None and self._last_answer >= noticed)
                self._silences[address] = _Silence(noticed, times, now + wait, is_its_own)
            while len(self._silences) > MOST_REMEMBERED:
                del self._silences[next(iter(self._silences))]

    def silent_seconds(self, address: Address) -> float | None:
        """For how long a destination has been silent while others answered; None when it is not."""
        if not self._silences:
            return None
        with self._lock:
            silence = self._silences.get(address)
            if silence is None or not silence.is_its_own:
                return None
            return self._clock() - silence.noticed

    def claim_trial(self, address: Address) -> bool:
        """Whether the caller may send one trial message. True for one caller at a time."""
        now = self._clock()
        with self._lock:
            silence = self._silences.get(address)
            if silence is None or now < silence.next_try:
                return False
            self._silences[address] = replace(silence, next_try=now + FIRST_WAIT_SECONDS)
            return True
