"""Liveness and readiness. Alive: the relay's threads make progress. Ready: signals flow.

Invariant: a database or broker that is away makes the relay unready, never dead: a restart would not bring it back.
Signals flow when some were sent recently, or a poll found nothing to send, and no model is stuck.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from signalbus_core.lowlevel import BurstResult

from ..text import moment, time_text
from .events import BurstSummary, Condition, Events
from .snapshots import Dependency, Stopped

#: When signals are pending and none was sent for so long, they do not flow. Shorter: a relay with slow bursts is
#: unready.
FLOW_WITHIN_SECONDS = 60.0

#: Of several brokers one is enough for signals to flow.
_BROKERS: tuple[Condition, ...] = ("up", "unused", "blocked", "down", "unknown")

#: Of several connections to one broker too; but RabbitMQ tells of an alarm only those that publish during it, and the
#: others are blocked at their next publish.
_CONNECTIONS: tuple[Condition, ...] = ("blocked", "up", "unused", "down", "unknown")


#: What is known of a server before it was tried.
UNKNOWN = Dependency("unknown", "not asked yet")

#: How servers of which a relay gets nothing are told of, by relays and commands.
DATABASE_AWAY = "the database is away"
BROKER_AWAY = "the broker is away"
BROKER_BLOCKED = "the broker takes no messages"

#: The action of the log lines about each cause for which the signals of a model do not flow.
STUCK_ACTIONS = {
    "hangs": "burst_hangs",
    "slow": "model_failing",
    "unreached": "signals_unreached",
    "unread": "model_unread",
}


class Health(Events):
    """The health of the relay: its threads report to it, and the HTTP server reads it.

    :param stall_after_seconds: a thread without progress for so long is stuck.
    :param clock: a monotonic clock, in seconds.
    :param flow_within_seconds: so long signals may be pending before one is sent.
    :param now: the wall clock, in seconds since the epoch.
    :param databases: how many there are: before all were polled, they are not known to be up.
    """

    def __init__(
        self,
        stall_after_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        flow_within_seconds: float = FLOW_WITHIN_SECONDS,
        now: Callable[[], float] = time.time,
        databases: int = 1,
    ) -> None:
        self._stall_after_seconds = stall_after_seconds
        self._flow_within_seconds = flow_within_seconds
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._beats: dict[str, float] = {}
        self._state = "starting"
        self._database = Dependency("unknown", "not asked yet", now())
        self._databases = databases
        # Of each database: its condition by the last poll, and whether that found anything to send.
        self._polled: dict[str, Dependency] = {}
        self._found: dict[str, bool] = {}
        self._brokers: dict[tuple[str, str], Dependency] = {}
        self._broker_since: dict[str | None, tuple[bool, float]] = {None: (False, now())}
        self._stuck: dict[tuple[str, str], Stopped] = {}
        self._history: dict[str | None, str | None] = {}
        self._flowed = clock()
        self._tellings = count(1)

    def progressed(self, thread: str) -> None:
        with self._lock:
            self._beats[thread] = self._clock()

    def worker_retired(self, worker: str) -> None:
        with self._lock:
            self._beats.pop(worker, None)
            places = [place for name, place in self._brokers if name == worker]
            self._brokers = {key: known for key, known in self._brokers.items() if key[0] != worker}
            for place in places:
                self._note_since(place)

    def model_stuck(self, model: str, cause: str, reason: str | None) -> None:
        with self._lock:
            known = self._stuck.pop((model, cause), None)
            if reason is not None:
                self._stuck[model, cause] = Stopped(STUCK_ACTIONS[cause], reason, known.since if known else self._now())

    def model_unread(self, model: str, reason: str | None, *, is_alone: bool) -> None:
        # Of a database that is away, the relay says so itself.
        self.model_stuck(model, "unread", reason if is_alone else None)

    def relay_changed(self, state: str) -> None:
        with self._lock:
            self._state = state
            self._flowed = self._clock()

    def burst_ended(self, model: str, result: BurstResult, decision: BurstSummary) -> None:
        if result.sent or not result.selected:
            # Nothing to lock, although signals are pending: other relays are sending them. If this lasts, Unreached
            # raises an incident for the model.
            self._flowed = self._clock()

    def database_polled(
        self, database: str, error: str | None, found: Collection[str] = (), cause: str = "poll"
    ) -> None:
        with self._lock:
            known = Dependency("up" if error is None else "down", error, self._now())
            self._polled[database] = _following(self._polled.get(database), known)
            self._found[database] = bool(found)
            down = {name: one for name, one in self._polled.items() if not one.is_usable}
            if down:
                # Where there is one, it needs no name.
                reasons = [
                    f"{one.reason}" if self._databases == 1 else f"{name}: {one.reason}" for name, one in down.items()
                ]
                self._database = Dependency("down", "; ".join(reasons), min(one.since for one in down.values()))
            elif len(self._polled) >= self._databases:
                self._note_database("up")
                if not any(self._found.values()):
                    self._flowed = self._clock()
            else:
                self._note_database(UNKNOWN.condition, UNKNOWN.reason)

    def history_checked(self, bind_key: str | None, problem: str | None) -> None:
        with self._lock:
            self._history[bind_key] = problem

    def set_database(self, condition: Condition, reason: str | None = None) -> None:
        with self._lock:
            self._note_database(condition, reason)

    def _note_database(self, condition: Condition, reason: str | None = None) -> None:
        self._database = _following(self._database, Dependency(condition, reason, self._now()))

    def database_at(self, database: str) -> Dependency:
        """The condition of one database, by the name under which it is polled."""
        with self._lock:
            return self._polled.get(database, UNKNOWN)

    def broker_changed(self, worker: str, condition: Condition, reason: str | None = None, location: str = "") -> None:
        with self._lock:
            before = self._brokers.get((worker, location))
            if before is None or (before.condition, before.reason) != (condition, reason):
                self._brokers[worker, location] = Dependency(condition, reason, told=next(self._tellings))
                self._note_since(location)

    def _note_since(self, location: str) -> None:
        for name in (location, None):
            is_usable = self._together(name).is_usable
            if is_usable != self._broker_since.get(name, (None, 0.0))[0]:
                self._broker_since[name] = (is_usable, self._now())

    def _together(self, broker: str | None) -> Dependency:
        """The condition of one broker over all workers; of all brokers together when it is None."""
        if broker is None:
            known = _first(map(self._together, self._locations()), _BROKERS)
        else:
            known = _first((one for (_, name), one in self._brokers.items() if name == broker), _CONNECTIONS)
        return replace(known, since=self._broker_since.get(broker, (False, 0.0))[1])

    def _locations(self) -> list[str]:
        return list(dict.fromkeys(name for _, name in self._brokers))

    def broker_connecting(self, worker: str, reason: str | None, location: str) -> None:
        self.broker_changed(worker, "down", reason, location)

    def broker_at(self, location: str) -> Dependency:
        """The condition of one broker, over all workers."""
        with self._lock:
            return self._together(location)

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
            return {name: self._together(name) for name in self._locations()}

    def broker_problem(self) -> Stopped | None:
        """Why no broker takes messages; None when one does, or when that is not known."""
        with self._lock:
            broker = self._together(None)
        if broker.condition == "down":
            return Stopped("broker_down", f"{BROKER_AWAY}: {broker.reason}", broker.since)
        if broker.condition == "blocked":
            return Stopped("broker_blocked", f"{BROKER_BLOCKED}: {broker.reason}", broker.since)
        return None

    def stuck(self, model: str) -> Stopped | None:
        """Why the signals of a model do not flow, while database and broker are up; None when they may."""
        with self._lock:
            return next((one for (name, _), one in self._stuck.items() if name == model), None)

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
            history = [problem for problem in self._history.values() if problem is not None]
        reasons = [] if state == "running" else [f"the relay is {state}"]
        reasons += [
            f"{name} is {dependency.condition}" + (f": {dependency.reason}" if dependency.reason else "")
            for name, dependency in (("database", database), ("broker", broker))
            if not dependency.is_usable
        ]
        if not reasons and idle_seconds > self._flow_within_seconds:
            reasons.append(f"signals are pending, and none was sent for {idle_seconds:.0f} s")
        reasons += [f"{model}: {one.reason}" for (model, _), one in stuck.items()]
        return {
            "ready": not reasons,
            "state": state,
            "database": _shown(database),
            "broker": _shown(broker),
            "reasons": reasons,
            # No reason: signals flow without a history.
            "history": "; ".join(history) or None,
            "stuck_models": sorted({model for model, _ in stuck}),
        }


def _shown(dependency: Dependency) -> dict[str, Any]:
    return {
        "condition": dependency.condition,
        "reason": dependency.reason,
        "since": time_text(moment(dependency.since)),
    }


def _following(before: Dependency | None, now: Dependency) -> Dependency:
    """What is known now, usable or unusable since that began."""
    return now if before is None or before.is_usable != now.is_usable else replace(now, since=before.since)


def _first(dependencies: Iterable[Dependency], order: Sequence[Condition]) -> Dependency:
    """The one whose condition comes first; of several of that condition, the newest reason."""
    known = sorted(dependencies, key=lambda dependency: (order.index(dependency.condition), -dependency.told))
    return known[0] if known else UNKNOWN
