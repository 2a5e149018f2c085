"""Liveness and readiness. Alive: the relay's threads make progress. Ready: signals flow.

Invariant: a database or broker that is away makes the relay unready, never dead: a restart would not bring it back.
Signals flow when some were sent recently, or a poll found nothing to send, and no model is stuck.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Literal

Condition = Literal["up", "down", "blocked", "unknown", "unused"]

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


class Health:
    """The health of the relay, written by its threads, read by the HTTP server.

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
        self._brokers: dict[tuple[str, str], Dependency] = {}
        self._broker_since: dict[str | None, tuple[bool, float]] = {None: (False, now())}
        self._stuck: dict[tuple[str, str], str] = {}
        self._flowed = clock()

    def beat(self, thread_name: str) -> None:
        """Record that a thread has made progress."""
        with self._lock:
            self._beats[thread_name] = self._clock()

    def forget(self, thread_name: str) -> None:
        """Record that a thread has ended as intended."""
        with self._lock:
            self._beats.pop(thread_name, None)
            self._brokers = {key: known for key, known in self._brokers.items() if key[0] != thread_name}

    def set_stuck(self, model: str, kind: str, reason: str | None) -> None:
        """Record why the signals of a model do not flow; None when this kind of reason is gone."""
        with self._lock:
            self._stuck.pop((model, kind), None)
            if reason is not None:
                self._stuck[model, kind] = reason

    def set_state(self, state: str) -> None:
        """Record the state of the process: ``starting``, ``running`` or ``draining``."""
        with self._lock:
            self._state = state
            self._flowed = self._clock()

    def flowed(self) -> None:
        """Record that signals were sent, or that none is pending."""
        self._flowed = self._clock()

    def set_database(self, condition: Condition, reason: str | None = None) -> None:
        known = Dependency(condition, reason, self._now())
        with self._lock:
            if known.is_usable == self._database.is_usable:
                known = replace(known, since=self._database.since)
            self._database = known

    def set_broker(
        self, thread_name: str, condition: Condition, reason: str | None = None, broker: str = ""
    ) -> Condition:
        """Record the condition of a worker's connection to a broker; return that of all workers together.

        One connection is enough for signals to flow: the best condition counts.
        """
        with self._lock:
            self._brokers[thread_name, broker] = Dependency(condition, reason)
            together = self._together(broker)
            for name, known in ((broker, together), (None, self._together(None))):
                is_usable, _ = self._broker_since.get(name, (None, 0.0))
                if is_usable != known.is_usable:
                    self._broker_since[name] = (known.is_usable, self._now())
            return together.condition

    def _together(self, broker: str | None) -> Dependency:
        """The condition of one broker over all workers; of all brokers together when it is None."""
        known = _best(known for (_, name), known in self._brokers.items() if broker in (None, name))
        return replace(known, since=self._broker_since.get(broker, (False, 0.0))[1])

    def broker(self) -> Condition:
        """The condition of all brokers together, over all workers."""
        with self._lock:
            return self._together(None).condition

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
