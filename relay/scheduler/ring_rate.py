"""When producers should stop sending NOTIFY, because they do so too often, and when they may begin again. Pure.

PostgreSQL commits transactions that send NOTIFY one after the other. A few hundred a second cost nobody anything; where
there are more, the relay lets its sleep lock go, so that producers are silent, and its workers look at the table in
short steps, until hardly anything is found.
"""

from __future__ import annotations

#: Above so many notifications a second producers are to be silent. Larger: more commits wait for each other; smaller:
#: at lower rates workers look in steps, which costs more than a burst for each signal, and delays it.
MOST_PER_SECOND = 250.0

#: So many notifications may come at once. Larger: a short flood is answered by more bursts, and slows producers down.
MOST_AT_ONCE = 25.0

#: The time between two steps. Shorter: less latency at high rates, more statements.
STEP_SECONDS = 0.005

#: After so many more steps that found nothing than steps that found something, producers send NOTIFY again. At 140
#: transactions a second half of the steps find something.
QUIET_AFTER = 10


class RingRate:
    """The notifications of one table, against what is allowed: a token bucket."""

    def __init__(self) -> None:
        self._left = MOST_AT_ONCE
        self._at = float("-inf")

    def is_too_high(self, rings: int, now: float) -> bool:
        """Record notifications; return whether there are too many."""
        self._left = min(MOST_AT_ONCE, self._left + (now - self._at) * MOST_PER_SECOND) - rings
        self._at = now
        if self._left >= 0:
            return False
        self._left = MOST_AT_ONCE
        return True


class Steps:
    """The steps of one model while its producers are silent."""

    def __init__(self) -> None:
        self._more_empty = 0

    @property
    def is_quiet(self) -> bool:
        """Whether hardly anything is found any more."""
        return self._more_empty >= QUIET_AFTER

    def ended(self, *, found: bool) -> bool:
        """A step has ended; return whether the model has just become quiet."""
        was_quiet = self.is_quiet
        self._more_empty = max(0, self._more_empty - 1) if found else min(QUIET_AFTER, self._more_empty + 1)
        return self.is_quiet and not was_quiet
