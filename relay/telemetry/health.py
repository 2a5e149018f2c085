"""Liveness and readiness. Alive: the relay's threads make progress. Ready: signals flow.

Invariant: a database or broker that is away makes the relay unready, never dead: a restart would not bring it back.
Signals flow when some were sent recently, or a poll found nothing to send, and no model is stuck.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from signalbus_core.lowlevel import BurstResult

from .events import BurstSummary, Condition, Events

#: When signals are pending and none was sent for so long, they do not flow. Shorter: a relay with slow bursts is
#: unready.
FLOW_WITHIN_SECONDS = 60.0

_BEST_FIRST: tuple[Condition, ...] = ("up", "unused", "blocked", "down", "unknown")


@dataclass(frozen=True)
class Dependency:
    """The state of the database or of the broker, and why, when it is not up.

    :param since: when it became usable or unusable, by the wall clock.
    """

    condition: Condition
    reason: str | None = None
    since: float = 0.0

    @property
    def is_usable(self) -> bool:
        return self.condition in ("up", "unused")


class Health(Events):
    """The health of the relay: its threads report to it, and the HTTP server reads it.

    :param stall_after_seconds: a thread without progress for so long is stuck.
    :param clock: a monotonic clock, in seconds.
    :param flow_within_seconds: so long signals may be pending before one is sent.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        stall_after_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        flow_within_seconds: float = FLOW_WITHIN_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._stall_after_seconds = stall_after_seconds
        self._flow_within_seconds = flow_within_seconds
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._beats: dict[str, float] = {}
        self._state = "starting"
        self._database = Dependency("unknown", "not asked yet", now())
        self._polled: dict[str, str | None] = {}
        self._brokers: dict[tuple[str, str], Dependency] = {}
        self._broker_since: dict[str | None, tuple[bool, float]] = {None: (False, now())}
        self._stuck: dict[tuple[str, str], str] = {}
        self._flowed = clock()

    def progressed(self, thread: str) -> None:
        with self._lock:
            self._beats[thread] = self._clock()

    def worker_retired(self, worker: str) -> None:
        with self._lock:
            self._beats.pop(worker, None)
            self._brokers = {key: known for key, known in self._brokers.items() if key[0] != worker}

    def model_stuck(self, model: str, cause: str, reason: str | None) -> None:
        with self._lock:
            self._stuck.pop((model, cause), None)
            if reason is not None:
                self._stuck[model, cause] = reason

    def relay_changed(self, state: str) -> None:
        with self._lock:
            self._state = state
            self._flowed = self._clock()

    def burst_ended(self, model: str, result: BurstResult, decision: BurstSummary) -> None:
        if result.sent or not result.selected:
            # Nothing to lock, although signals are pending: other relays are sending them. If this lasts, Unreached
            # raises an incident for the model.
            self._flowed = self._clock()

    def database_polled(self, database: str, error: str | None) -> None:
        with self._lock:
            self._polled[database] = error

    def poll_ended(self, cause: str, found: Collection[str]) -> None:
        down = [f"{name}: {error}" for name, error in self._polled.items() if error is not None]
        self.set_database("down" if down else "up", "; ".join(down) or None)
        if not found and not down:
            self._flowed = self._clock()

    def set_database(self, condition: Condition, reason: str | None = None) -> None:
        known = Dependency(condition, reason, self._now())
        with self._lock:
            if known.is_usable == self._database.is_usable:
                known = replace(known, since=self._database.since)
            self._database = known

    def broker_changed(self, worker: str, condition: Condition, reason: str | None = None, location: str = "") -> None:
        # One connection is enough for signals to flow: the best condition counts.
        with self._lock:
            self._brokers[worker, location] = Dependency(condition, reason)
            for name in (location, None):
                known = self._together(name)
                is_usable, _ = self._broker_since.get(name, (None, 0.0))
                if is_usable != known.is_usable:
                    self._broker_since[name] = (known.is_usable, self._now())

    def _together(self, broker: str | None) -> Dependency:
        """The condition of one broker over all workers; of all brokers together when it is None."""
        known = _best(known for (_, name), known in self._brokers.items() if broker in (None, name))
        return replace(known, since=self._broker_since.get(broker, (False, 0.0))[1])

    def broker_connecting(self, worker: str, reason: str | None, location: str) -> None:
        self.broker_changed(worker, "down", reason, location)

    def is_broker_up(self, location: str) -> bool:
        """Whether any worker has a connection to this broker that can be used."""
        with self._lock:
            return self._together(location).condition == "up"

    def broker(self) -> Condition:
        """The condition of all brokers together, over all workers."""
        with self._lock:
            return self._together(None).condition

    @property
    def database(self) -> Condition:
        """The condition of all databases together."""
        return self._database.condition

    @property
    def state(self) -> str:
        """The state of the process."""
        return self._state

    def brokers(self) -> dict[str, Dependency]:
        """The condition of each broker over all workers, by its location."""
        with self._lock:
            return {name: self._together(name) for name in dict.fromkeys(name for _, name in self._brokers)}

    def stalled(self) -> list[str]:
        """The threads without progress, and since how long; empty when the relay is alive."""
        now = self._clock()
        with self._lock:
            return [
                f"{name} has made no progress for {now - beat:.0f} s"
                for name, beat in self._beats.items()
                if now - beat > self._stall_after_seconds
            ]

    def readiness(self) -> dict[str, Any]:
        """Whether signals can flow, and if not, why not. ``ready`` is the verdict."""
        with self._lock:
            state, database, broker = self._state, self._database, self._together(None)
            idle_seconds = self._clock() - self._flowed
            stuck = dict(self._stuck)
        reasons = [] if state == "running" else [f"the relay is {state}"]
        reasons += [
            f"{name} is {dependency.condition}" + (f": {dependency.reason}" if dependency.reason else "")
            for name, dependency in (("database", database), ("broker", broker))
            if not dependency.is_usable
        ]
        if not reasons and idle_seconds > self._flow_within_seconds:
            reasons.append(f"signals are pending, and none was sent for {idle_seconds:.0f} s")
        reasons += [f"{model}: {reason}" for (model, _), reason in stuck.items()]
        return {
            "ready": not reasons,
            "state": state,
            "database": _shown(database),
            "broker": _shown(broker),
            "reasons": reasons,
            "stuck_models": sorted({model for model, _ in stuck}),
        }


def _shown(dependency: Dependency) -> dict[str, Any]:
    return {
        "condition": dependency.condition,
        "reason": dependency.reason,
        "since": datetime.fromtimestamp(dependency.since, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _best(dependencies: Iterable[Dependency]) -> Dependency:
    known = sorted(dependencies, key=lambda dependency: _BEST_FIRST.index(dependency.condition))
    return known[0] if known else Dependency("unknown", "not asked yet")
