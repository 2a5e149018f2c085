"""Incidents. Invariant: a log line when one is raised, when its reason has changed for good, each minute, at its end.

A relay retries for as long as an outage lasts; a line for each try would hide the others. Lasting incidents are kept,
so that the status page shows the same as the log.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from signalbus_core.lowlevel import BurstResult

from .events import BurstSummary, Condition, Events
from .remedies import Remedy, remedy_for
from .snapshots import Dependency

#: A lasting incident is logged again after so many seconds. Shorter: more log lines in an outage.
REMIND_AFTER_SECONDS = 60.0

#: Another reason is logged once it has been the reason for so many seconds. Shorter: more log lines while a server
#: restarts; longer: the log shows the first reason for longer.
SETTLED_AFTER_SECONDS = 2.0

_NUMBER = re.compile(r"\d+")

#: What is known of a broker before any worker has told.
UNKNOWN = Dependency("unknown")


@dataclass
class _Logged:
    """What the log says of a lasting incident.

    :param since: when it began.
    :param at: when it was logged last.
    :param reason: the reason that was logged, without its numbers.
    :param latest: the reason of now, likewise.
    :param latest_since: since when it has been that.
    """

    since: float
    at: float
    reason: str
    latest: str
    latest_since: float


@dataclass(frozen=True)
class Stuck:
    """One cause for which the signals of a model do not flow: what is stuck, and the log actions."""

    what: str
    begins: str
    ends: str


#: The causes of ``Events.model_stuck``.
STUCK = {
    "hangs": Stuck("a burst", begins="burst_hangs", ends="burst_goes_on"),
    "slow": Stuck("its scans", begins="model_failing", ends="model_recovered"),
    "unreached": Stuck("pending signals", begins="signals_unreached", ends="signals_reached"),
}


def stuck_thing(model_name: str, cause: str) -> str:
    """The subject of the incident that the signals of a model do not flow."""
    return f"{model_name}, {STUCK[cause].what}"


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

    @property
    def remedy(self) -> Remedy:
        """What to do about it."""
        return remedy_for(self.action, self.reason)


class Incidents(Events):
    """Logs the incidents of named things (the database, the broker, a signal model).

    :param clock: a monotonic clock, in seconds.
    :param now: the wall clock, in seconds since the epoch.
    :param broker_at: the condition of a broker over all workers, by its location.
    """

    def __init__(
        self,
        logger: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        broker_at: Callable[[str], Dependency] = lambda location: UNKNOWN,
    ) -> None:
        self._broker_at = broker_at
        self._logger = logger
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._logged: dict[str, _Logged] = {}
        self._lasting: dict[str, Incident] = {}
        self._last_of_signal: dict[str, Incident] = {}

    def burst_ended(self, model: str, result: BurstResult, decision: BurstSummary) -> None:
        if decision.problem is not None:
            self.raised(model, "model_failing", decision.problem, model)
        elif decision.recovered:
            self.resolved(model, "model_recovered", model)

    def burst_interrupted(self, model: str, decision: BurstSummary, possible_duplicates: int = 0) -> None:
        self.raised(model, "model_failing", decision.problem or "", model)

    def history_checked(self, bind_key: str | None, problem: str | None) -> None:
        thing = "History" if bind_key is None else f"History (bind {bind_key!r})"
        if problem is None:
            self.resolved(thing, "history_recovered")
        else:
            self.raised(thing, "history_failing", problem)

    def model_stuck(self, model: str, cause: str, reason: str | None) -> None:
        if reason is None:
            self.resolved(stuck_thing(model, cause), STUCK[cause].ends, model)
        else:
            self.raised(stuck_thing(model, cause), STUCK[cause].begins, reason, model)

    def broker_changed(self, worker: str, condition: Condition, reason: str | None = None, location: str = "") -> None:
        # Of all workers together: what each of them knows would be raised and resolved in turns.
        thing, known = f"Broker {location}", self._broker_at(location)
        if known.condition == "up":
            self.resolved(thing, "broker_up")
        elif known.condition == "down":
            self.raised(thing, "broker_down", known.reason or "not connected")
        elif known.condition == "blocked":
            self.raised(thing, "broker_blocked", f"takes no messages ({known.reason})")

    def database_polled(
        self, database: str, error: str | None, found: Collection[str] = (), cause: str = "poll"
    ) -> None:
        if error is None:
            self.resolved(database, "database_up")
        else:
            self.raised(database, "database_down", error)

    def raised(self, thing: str, action: str, reason: str, signal: str | None = None, **extra: object) -> None:
        # A warning the first time, for a reason that has changed for good, and then one a minute; DEBUG otherwise.
        now = self._clock()
        with self._lock:
            due = self._is_due(thing, reason, now)
            since = self._logged[thing].since
            self._keep(thing, action, reason, now - since, signal)
        self._logger.log(
            logging.WARNING if due else logging.DEBUG,
            "%s: %s",
            thing,
            reason,
            extra={
                "action": action,
                "since_seconds": round(now - since, 1),
                "to_do": remedy_for(action, reason).text,
                **_of(signal),
                **extra,
            },
        )

    def _is_due(self, thing: str, reason: str, now: float) -> bool:
        # Counts, keys, ports and seconds differ each time, and are no other reason.
        kind = _NUMBER.sub("", reason)
        logged = self._logged.get(thing)
        if logged is None:
            self._logged[thing] = _Logged(now, now, kind, kind, now)
            return True
        if kind != logged.latest:
            logged.latest, logged.latest_since = kind, now
        has_changed = kind != logged.reason and now - logged.latest_since >= SETTLED_AFTER_SECONDS
        if not has_changed and now - logged.at < REMIND_AFTER_SECONDS:
            return False
        logged.reason, logged.at = kind, now
        return True

    def _keep(self, thing: str, action: str, reason: str, lasted_seconds: float, signal: str | None) -> None:
        at = self._now()
        self._lasting[thing] = incident = Incident(thing, action, reason, signal, at - lasted_seconds, at)
        if signal is not None:
            self._last_of_signal[signal] = incident

    def resolved(self, thing: str, action: str, signal: str | None = None) -> None:
        # Logs only when something was wrong.
        with self._lock:
            known = self._logged.pop(thing, None)
            self._lasting.pop(thing, None)
        if known is not None:
            seconds = round(self._clock() - known.since, 1)
            self._logger.info(
                "%s: works again after %s s.",
                thing,
                seconds,
                extra={"action": action, "after_seconds": seconds, **_of(signal)},
            )

    def lasting(self) -> dict[str, Incident]:
        """The incidents that last now, by thing."""
        with self._lock:
            return dict(self._lasting)

    def last_of_signals(self) -> dict[str, Incident]:
        """The last incident of each signal model that had one, resolved or not."""
        with self._lock:
            return dict(self._last_of_signal)


def _of(signal: str | None) -> dict[str, str]:
    return {} if signal is None else {"signal": signal}
