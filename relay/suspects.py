"""Signals that were alone in an outage: perhaps they are what brought it about. Pure: the time is passed in.

The next burst tries another one instead. When that is sent, the outage was the suspect's own, and it holds up nobody;
when it is not, nothing is lost but a short wait. A suspect is tried again alone, so that no other shares its outage,
until there is an answer for it. An outage costs no signal an attempt, so nothing is counted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from signalbus_core import Key

from .pacing import Backoff

#: A suspect waits at most so many seconds for its next try. Longer: a signal that was only unlucky comes later.
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

    def answered(self, keys: Iterable[Key]) -> None:
        """The broker answered for these signals, in whatever way, or they are gone."""
        for key in keys:
            self._suspicions.pop(key, None)

    def keys(self) -> list[Key]:
        """The signals that bursts of others leave out."""
        return list(self._suspicions)

    def has_due(self, now: float) -> bool:
        """Whether a suspect can be tried again."""
        return any(suspicion.until <= now for suspicion in self._suspicions.values())

    def take_due(self, now: float) -> Key | None:
        """A suspect to be tried again, alone; None when the time of none has come."""
        for key, suspicion in self._suspicions.items():
            if suspicion.until <= now:
                # Put off at once: no second worker must take it meanwhile.
                until = now + self._backoff.wait_seconds(suspicion.times)
                self._suspicions[key] = _Suspicion(suspicion.times, until)
                return key
        return None
