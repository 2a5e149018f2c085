"""Signals that were alone in an outage: perhaps they are what brought it about. Pure: the time is passed in.

The next burst tries another one instead. When that is sent, the outage was the suspect's own, and it holds up nobody;
when it is not, nothing is lost but a short wait. An outage costs no signal an attempt, so nothing is counted here.
"""

from __future__ import annotations

from dataclasses import dataclass

from signalbus_core import Key

from .pacing import Backoff

#: A suspect is left out for at most so many seconds. Longer: a signal that was only unlucky comes later.
LONGEST_SUSPICION_SECONDS = 30.0

#: So many suspects are remembered; they are parameters of the model's statements.
MOST_SUSPECTS = 100


@dataclass(frozen=True)
class _Suspicion:
    times: int
    until: float


class Suspects:
    """The suspects of one model."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff(1.0, LONGEST_SUSPICION_SECONDS)
        self._suspicions: dict[Key, _Suspicion] = {}

    def was_alone(self, key: Key, now: float) -> None:
        """A burst of this signal alone ended in an outage."""
        times = self._suspicions[key].times + 1 if key in self._suspicions else 1
        self._suspicions.pop(key, None)
        self._suspicions[key] = _Suspicion(times, now + self._backoff.wait_seconds(times))
        if len(self._suspicions) > MOST_SUSPECTS:
            del self._suspicions[next(iter(self._suspicions))]

    def answered(self, keys: list[Key]) -> None:
        """The broker answered for these signals, in whatever way."""
        for key in keys:
            self._suspicions.pop(key, None)

    def keys(self, now: float) -> list[Key]:
        """The signals to leave out."""
        return [key for key, suspicion in self._suspicions.items() if suspicion.until > now]
