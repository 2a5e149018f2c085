"""Incidents. Invariant: one log line when one is raised, one a minute while it lasts, one when it is resolved.

A relay retries for as long as an outage lasts; a line for each try would hide the others. Lasting incidents are kept,
so that the status page shows the same as the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

#: A lasting incident is logged again after so many seconds. Shorter: more log lines in an outage.
REMIND_AFTER_SECONDS = 60.0


def single_signals(model_name: str) -> str:
    """The subject of the incident that single signals of a model cannot be sent, while the model works."""
    return f"{model_name}, single signals"


@dataclass(frozen=True)
class Incident:
    """What is wrong with a thing.

    :param signal: the signal model that it is about, if it is about one.
    :param since: when it began, by the wall clock.
    :param at: when it was seen last, by the wall clock.
    """

    thing: str
    action: str
    reason: str
    signal: str | None
    since: float
    at: float


class Incidents:
    """Logs the incidents of named things (the database, the broker, a signal model).

    :param clock: a monotonic clock, in seconds.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        logger: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._troubles: dict[str, tuple[float, float]] = {}
        self._lasting: dict[str, Incident] = {}
        self._last_of_signal: dict[str, Incident] = {}

    def raised(self, thing: str, action: str, reason: str, **extra: object) -> None:
        """Something is wrong with ``thing``. A warning the first time, then one a minute; DEBUG otherwise."""
        now = self._clock()
        with self._lock:
            since, reminded = self._troubles.get(thing, (now, float("-inf")))
            due = now - reminded >= REMIND_AFTER_SECONDS
            self._troubles[thing] = (since, now if due else reminded)
            self._keep(thing, action, reason, now - since, extra.get("signal"))
        self._logger.log(
            logging.WARNING if due else logging.DEBUG,
            "%s: %s",
            thing,
            reason,
            extra={"action": action, "since_seconds": round(now - since, 1), **extra},
        )

    def _keep(self, thing: str, action: str, reason: str, lasted_seconds: float, signal: object) -> None:
        at = self._now()
        name = signal if isinstance(signal, str) else None
        self._lasting[thing] = trouble = Incident(thing, action, reason, name, at - lasted_seconds, at)
        if name is not None:
            self._last_of_signal[name] = trouble

    def resolved(self, thing: str, action: str, **extra: object) -> None:
        """Nothing is wrong with ``thing`` (any more). Logs only when something was."""
        with self._lock:
            trouble = self._troubles.pop(thing, None)
            self._lasting.pop(thing, None)
        if trouble is not None:
            seconds = round(self._clock() - trouble[0], 1)
            self._logger.info(
                "%s: works again after %s s.",
                thing,
                seconds,
                extra={"action": action, "after_seconds": seconds, **extra},
            )

    def lasting(self) -> dict[str, Incident]:
        """The incidents that last now, by thing."""
        with self._lock:
            return dict(self._lasting)

    def last_of_signals(self) -> dict[str, Incident]:
        """The last incident of each signal model that had one, resolved or not."""
        with self._lock:
            return dict(self._last_of_signal)
