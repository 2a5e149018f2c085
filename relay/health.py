"""What is known about the relay's health. Liveness is the progress of its threads; readiness, whether signals can flow.

A database or broker that is away makes the relay unready, never dead: a restart would not bring it back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Condition = Literal["up", "down", "blocked", "unknown", "unused"]

_BEST_FIRST: tuple[Condition, ...] = ("up", "unused", "blocked", "down", "unknown")


@dataclass(frozen=True)
class Dependency:
    """The state of the database or of the broker, and why, when it is not up."""

    condition: Condition
    reason: str | None = None

    @property
    def is_usable(self) -> bool:
        return self.condition in ("up", "unused")


class Health:
    """Written by the relay's threads, read by the HTTP server.

    :param stall_after_seconds: a thread without progress for so long is stuck.
    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, stall_after_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_after_seconds = stall_after_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._beats: dict[str, float] = {}
        self._state = "starting"
        self._database = Dependency("unknown", "not asked yet")
        self._brokers: dict[tuple[str, str], Dependency] = {}

    def beat(self, thread_name: str) -> None:
        """Note that a thread has made progress."""
        with self._lock:
            self._beats[thread_name] = self._clock()

    def set_state(self, state: str) -> None:
        """Note the state of the process: ``starting``, ``running`` or ``draining``."""
        with self._lock:
            self._state = state

    def set_database(self, condition: Condition, reason: str | None = None) -> None:
        with self._lock:
            self._database = Dependency(condition, reason)

    def set_broker(
        self, thread_name: str, condition: Condition, reason: str | None = None, broker: str = ""
    ) -> Condition:
        """Note what a worker knows of a broker; return what all of them know of this one together.

        One connection is enough for signals to flow: the best that any worker has, counts.
        """
        with self._lock:
            self._brokers[thread_name, broker] = Dependency(condition, reason)
            return _best(known for (_, name), known in self._brokers.items() if name == broker).condition

    def broker(self) -> Condition:
        """What all workers know of all brokers together."""
        with self._lock:
            return _best(self._brokers.values()).condition

    def stalled(self) -> list[str]:
        """The threads without progress, with for how long; empty when the relay is alive."""
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
            state, database, broker = self._state, self._database, _best(self._brokers.values())
        reasons = [] if state == "running" else [f"the relay is {state}"]
        reasons += [
            f"{name} is {dependency.condition}" + (f": {dependency.reason}" if dependency.reason else "")
            for name, dependency in (("database", database), ("broker", broker))
            if not dependency.is_usable
        ]
        return {
            "ready": not reasons,
            "state": state,
            "database": {"condition": database.condition, "reason": database.reason},
            "broker": {"condition": broker.condition, "reason": broker.reason},
            "reasons": reasons,
        }


def _best(dependencies: Iterable[Dependency]) -> Dependency:
    known = sorted(dependencies, key=lambda dependency: _BEST_FIRST.index(dependency.condition))
    return known[0] if known else Dependency("unknown", "not asked yet")
