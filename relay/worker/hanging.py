"""Tells of models whose bursts hang, and records whose bursts lock nothing. Other models flow meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

from signalbus_core.lowlevel import BurstResult

from ..runtime import Runtime
from ..scheduler import Scheduler, Turn
from ..telemetry.events import BurstSummary, Events

#: A burst without progress for so long counts as hanging. Longer: a send method that hangs is noticed later; shorter:
#: slow send methods that report no progress count as hanging.
HANGS_AFTER_SECONDS = 10.0

#: The incident is updated at this interval, with the seconds that have passed.
TELL_EVERY_SECONDS = 2.0


class HangingBursts:
    """Tells which models' bursts hang, and when they go on."""

    def __init__(self, scheduler: Scheduler, runtime: Runtime) -> None:
        self._scheduler = scheduler
        self._events = runtime.events
        self._clock = runtime.clock
        self._logged_at: dict[str, float] = {}

    def run_once(self) -> None:
        hanging = self._scheduler.turns_without_progress(HANGS_AFTER_SECONDS)
        for name in self._logged_at.keys() - hanging.keys():
            del self._logged_at[name]
            self._events.model_stuck(name, "hangs", None)
        for name, turns in hanging.items():
            now = self._clock()
            if now - self._logged_at.get(name, float("-inf")) >= TELL_EVERY_SECONDS:
                self._logged_at[name] = now
                self._events.model_stuck(name, "hangs", hanging_reason(turns, now))


def hanging_reason(turns: Sequence[Turn], now: float) -> str:
    """Which workers hang in turns of one model, and where, in words for people."""
    return "; ".join(
        f"{turn.worker} has made no progress for {now - turn.progress_at:.0f} s: "
        + ("its send method has not returned" if turn.is_sending else "the database does not answer")
        for turn in sorted(turns, key=lambda turn: turn.worker)
    )


class EmptyBursts(Events):
    """Since when the bursts of each model have locked nothing. Workers and pollers share it.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}

    def burst_ended(self, model: str, result: BurstResult, decision: BurstSummary) -> None:
        with self._lock:
            if result.selected:
                self._since.pop(model, None)
            else:
                self._since.setdefault(model, self._clock())

    def forget(self, names: Collection[str]) -> None:
        """Forget the models, of which nothing is pending."""
        with self._lock:
            self._since = {name: since for name, since in self._since.items() if name not in names}

    def lasting(self, seconds: float) -> list[str]:
        """The models whose bursts have locked nothing for so long."""
        earliest = self._clock() - seconds
        with self._lock:
            return [name for name, since in self._since.items() if since <= earliest]
