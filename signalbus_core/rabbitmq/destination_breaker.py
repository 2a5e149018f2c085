"""Destinations that do not confirm while others do: a quorum queue without its majority, for example. Pure bookkeeping.

A message for such a destination uses up the whole time of the burst that it is in. So it is not sent while the silence
is known, except one at a time, to find out whether it is over. When nothing at all is confirmed, that is an outage, and
no destination's own fault: a silence counts only when others were answered while it lasted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

Address = tuple[str, str]

#: How long after the first silence the next message is sent there; it doubles with each further one.
FIRST_WAIT_SECONDS = 5.0

#: At the longest. Longer: fewer copies of a message that may be stored after all, and a later return.
LONGEST_WAIT_SECONDS = 300.0

#: So many silent destinations are remembered.
MOST_REMEMBERED = 1000


@dataclass(frozen=True)
class _Silence:
    noticed: float
    times: int
    next_try: float
    is_its_own: bool


class DestinationBreaker:
    """What the threads of a publisher know about silent destinations.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._silences: dict[Address, _Silence] = {}
        self._last_answer = float("-inf")

    @property
    def any_remembered(self) -> bool:
        """Whether any destination was silent lately."""
        return bool(self._silences)

    def now(self) -> float:
        """The time, for :meth:`was_silent`."""
        return self._clock()

    def answered(self, addresses: Collection[Address]) -> None:
        """The broker answered for messages to these destinations."""
        if not addresses:
            return
        with self._lock:
            self._last_answer = self._clock()
            for address in self._silences.keys() & set(addresses):
                del self._silences[address]

    def was_silent(self, addresses: Collection[Address], since: float) -> None:
        """Time ran out, and nothing was answered for messages to these destinations.

        :param since: when they were sent. An answer to others since then, or since an earlier silence, tells a silence
          from an outage. One that comes later does not: the outage may have ended in between.
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
        """For how long a destination has been known to be silent while others answered; None when it has not."""
        if not self._silences:
            return None
        with self._lock:
            silence = self._silences.get(address)
            if silence is None or not silence.is_its_own:
                return None
            return self._clock() - silence.noticed

    def may_try(self, address: Address) -> bool:
        """Whether the caller is to try with one message whether the silence is over. For one caller at a time."""
        now = self._clock()
        with self._lock:
            silence = self._silences.get(address)
            if silence is None or now < silence.next_try:
                return False
            self._silences[address] = replace(silence, next_try=now + FIRST_WAIT_SECONDS)
            return True
