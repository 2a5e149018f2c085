"""Log lines about lasting states: one when a trouble begins, one a minute while it lasts, one when it is over.

A relay retries for as long as an outage lasts; a line for each try would bury the one that matters.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

#: While a trouble lasts it is logged again after so many seconds.
REMIND_AFTER_SECONDS = 60.0


def single_signals(model_name: str) -> str:
    """The thing whose trouble is that single signals of a model cannot be sent, while the model works."""
    return f"{model_name}, single signals"


class Announcer:
    """Logs the troubles of named things (the database, the broker, a signal model).

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._troubles: dict[str, tuple[float, float]] = {}

    def trouble(self, thing: str, action: str, reason: str, **extra: object) -> None:
        """Something is wrong with ``thing``. A warning the first time, then one a minute; DEBUG otherwise."""
        now = self._clock()
        with self._lock:
            since, reminded = self._troubles.get(thing, (now, float("-inf")))
            due = now - reminded >= REMIND_AFTER_SECONDS
            self._troubles[thing] = (since, now if due else reminded)
        self._logger.log(
            logging.WARNING if due else logging.DEBUG,
            "%s: %s",
            thing,
            reason,
            extra={"action": action, "since_seconds": round(now - since, 1), **extra},
        )

    def fine(self, thing: str, action: str, **extra: object) -> None:
        """Nothing is wrong with ``thing`` (any more). Logs only when something was."""
        with self._lock:
            trouble = self._troubles.pop(thing, None)
        if trouble is not None:
            seconds = round(self._clock() - trouble[0], 1)
            self._logger.info(
                "%s: works again after %s s.",
                thing,
                seconds,
                extra={"action": action, "after_seconds": seconds, **extra},
            )
