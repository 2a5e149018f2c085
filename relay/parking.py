"""Signals that could not be sent, while the rest of their model goes on. Pure: the time is passed in.

A signal that failed for a reason of its own waits longer with each attempt, and is left out of bursts until then.
Nothing is ever discarded: forgetting an entry only means that its signal is tried again earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

from signalbus_core import Outcome

from .pacing import Backoff

Key = tuple[object, ...]

#: So many waiting signals of one model are remembered. Their keys are a parameter of each of the model's statements.
MOST_WAITING = 10_000

#: How long after its next try an entry is forgotten. Longer: attempts of a signal that comes late are still counted.
FORGET_AFTER_SECONDS = 600.0


@dataclass(frozen=True)
class Waiting:
    """A signal that waits for its next attempt.

    :param attempts: failed attempts so far.
    :param next_try: when it may be tried again, on the caller's clock.
    :param outcome: of the last attempt.
    """

    attempts: int
    next_try: float
    outcome: Outcome


class Parking:
    """The waiting signals of one model, kept in memory."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._waiting: dict[Key, Waiting] = {}
        self._backoff = backoff or Backoff(shortest_seconds=1.0, longest_seconds=60.0)

    def failed(self, key: Key, outcome: Outcome, now: float) -> Waiting:
        """Count a failed attempt of the signal with this key."""
        before = self._waiting.get(key)
        attempts = before.attempts + 1 if before else 1
        entry = Waiting(attempts, now + self._backoff.wait_seconds(attempts), outcome)
        self._waiting[key] = entry
        return entry

    def waiting_keys(self, now: float) -> list[Key]:
        """The keys of the signals that are not to be tried yet."""
        self._forget(now)
        return [key for key, entry in self._waiting.items() if entry.next_try > now]

    def next_try(self, now: float) -> float | None:
        """When the first of the waiting signals may be tried again."""
        return min((entry.next_try for entry in self._waiting.values() if entry.next_try > now), default=None)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING

    def _forget(self, now: float) -> None:
        stale = [key for key, entry in self._waiting.items() if entry.next_try + FORGET_AFTER_SECONDS < now]
        for key in stale:
            del self._waiting[key]
