"""Raises incidents for models whose bursts hang, and records whose bursts lock nothing. Other models flow meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from ..scheduler import Scheduler
from ..telemetry.health import Health
from ..telemetry.incidents import Incidents
from ..telemetry.status import Status

#: A burst without progress for so long counts as hanging. Longer: a send method that hangs is noticed later; shorter:
#: slow send methods that report no progress count as hanging.
HANGS_AFTER_SECONDS = 10.0

#: The incident is updated at this interval, with the seconds that have passed.
TELL_EVERY_SECONDS = 2.0


class HangingBursts:
    """Raises and resolves the incidents of models whose bursts hang.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        health: Health,
        incidents: Incidents,
        status: Status,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._health = health
        self._incidents = incidents
        self._status = status
        self._clock = clock
        self._told: dict[str, float] = {}

    def run_once(self) -> None:
        hanging = self._scheduler.unmoved(HANGS_AFTER_SECONDS)
        for name in self._told.keys() - hanging.keys():
            del self._told[name]
            self._health.set_stuck(name, "hangs", None)
            self._incidents.resolved(_thing(name), "burst_goes_on", signal=name)
        for name, workers in hanging.items():
            if self._clock() - self._told.get(name, float("-inf")) >= TELL_EVERY_SECONDS:
                self._told[name] = self._clock()
                reason = self.reason(workers)
                self._health.set_stuck(name, "hangs", reason)
                self._incidents.raised(_thing(name), "burst_hangs", reason, signal=name)

    def reason(self, workers: dict[str, float]) -> str:
        """The text of the incident for workers whose bursts of one model hang."""
        doing = {worker.name: worker.doing for worker in self._status.workers()}
        return "; ".join(
            f"{name} has made no progress for {seconds:.0f} s: "
            + ("its send method has not returned" if doing.get(name) == "sending" else "the database does not answer")
            for name, seconds in sorted(workers.items())
        )


def _thing(name: str) -> str:
    return f"{name}, a burst"


class EmptyBursts:
    """Since when the bursts of each model have locked nothing. Workers and the poller's thread share it.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}

    def ended(self, name: str, selected: int) -> None:
        """Record how many signals a burst locked."""
        with self._lock:
            if selected:
                self._since.pop(name, None)
            else:
                self._since.setdefault(name, self._clock())

    def keep(self, pending: Collection[str]) -> None:
        """Forget the models of which nothing is pending."""
        with self._lock:
            self._since = {name: since for name, since in self._since.items() if name in pending}

    def lasting(self, seconds: float) -> list[str]:
        """The models whose bursts have locked nothing for so long."""
        earliest = self._clock() - seconds
        with self._lock:
            return [name for name, since in self._since.items() if since <= earliest]
