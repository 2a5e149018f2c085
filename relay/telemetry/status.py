"""The present state of the relay: its threads report to it, and the HTTP server reads it.

Invariant: each write is one short step under a lock; a reader copies, and delays no writer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from signalbus_core.lowlevel import BlockedKey, BurstResult

from .events import BurstSummary, Condition, Doing, Events, Failure, HeldHorizon
from .snapshots import NOT_MEASURED, Gauge, ModelStatus, Paused, Unread, WorkerStatus
from .throughput import Throughput

#: While others of a model were sent so recently, those that fail say nothing about it. Longer: a model of which
#: everything fails is known later.
SENT_LATELY_SECONDS = 3.0


class _Model:
    def __init__(self, now: float) -> None:
        self.rates = Throughput(now)
        self.gauge: Gauge | None = None
        self.sent = 0
        self.sent_at: float | None = None
        self.unread: Unread | None = None
        self.is_failing: bool | None = None
        self.failure: Failure | None = None


class Status(Events):
    """The state that the relay's threads tell.

    :param names: the names of the signal models.
    :param clock: a monotonic clock, in seconds.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        names: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._models = {name: _Model(clock()) for name in names}
        self._paused: dict[str, Paused] = {}
        self._horizons: dict[str | None, HeldHorizon] = {}
        self._workers: dict[str, tuple[WorkerStatus, float]] = {}
        #: The node of each broker to which each worker is connected, by worker and location.
        self._nodes: dict[tuple[str, str], str] = {}
        self._started = clock()
        #: When the relay was started, by the wall clock.
        self.started_at = now()

    def worker_changed(self, worker: str, doing: Doing, model: str | None = None, signals: int | None = None) -> None:
        # A repeated call does not reset its start.
        status = WorkerStatus(worker, doing, model, signals)
        with self._lock:
            known = self._workers.get(worker)
            if known is None or known[0] != status:
                self._workers[worker] = (status, self._clock())

    def worker_retired(self, worker: str) -> None:
        with self._lock:
            self._workers.pop(worker, None)
            self._nodes = {place: node for place, node in self._nodes.items() if place[0] != worker}

    def broker_connected(self, worker: str, location: str, node: str) -> None:
        with self._lock:
            self._nodes[worker, location] = node

    def broker_changed(self, worker: str, condition: Condition, reason: str | None = None, location: str = "") -> None:
        if condition == "down":
            with self._lock:
                self._nodes.pop((worker, location), None)

    def burst_ended(self, model: str, result: BurstResult, decision: BurstSummary) -> None:
        with self._lock:
            known = self._models[model]
            if result.sent:
                known.is_failing, known.failure = False, None
            elif decision.is_scan and result.failed and not result.is_outage:
                outcome, before = result.failed[0].outcome, known.failure
                known.is_failing = True
                known.failure = Failure(outcome.cause, outcome.reason, before.since if before else self._now())
            if not result.sent:
                return
            known.rates.add(result.sent, self._clock())
            known.sent += result.sent
            known.sent_at = self._now()

    def backlog_measured(self, model: str, backlog: int, lag_seconds: float) -> None:
        with self._lock:
            known = self._models[model]
            known.gauge = replace(known.gauge or NOT_MEASURED, backlog=backlog, lag_seconds=lag_seconds, at=self._now())

    def scheduled_counted(self, model: str, scheduled: int) -> None:
        with self._lock:
            known = self._models[model]
            known.gauge = replace(known.gauge or replace(NOT_MEASURED, at=self._now()), scheduled=scheduled)

    def failed_counted(self, model: str, waiting: int, parked: int) -> None:
        with self._lock:
            known = self._models[model]
            before = known.gauge or replace(NOT_MEASURED, at=self._now())
            known.gauge = replace(before, waiting=waiting, parked=parked)

    def blocked_counted(self, model: str, keys: int) -> None:
        with self._lock:
            known = self._models[model]
            before = known.gauge or replace(NOT_MEASURED, at=self._now())
            known.gauge = replace(before, blocked_keys=keys, blocked_by=before.blocked_by if keys else ())

    def blocked_named(self, model: str, keys: tuple[BlockedKey, ...]) -> None:
        with self._lock:
            known = self._models[model]
            if known.gauge is not None:
                known.gauge = replace(known.gauge, blocked_by=keys)

    def failure_read(self, model: str, failure: Failure | None) -> None:
        with self._lock:
            self._models[model].failure = failure

    def model_unread(self, model: str, reason: str | None, *, is_alone: bool) -> None:
        with self._lock:
            known = self._models[model]
            before, known.unread = known.unread, None
            if reason is not None:
                known.unread = Unread(reason, is_alone, before.since if before else self._now())
                # It is measured anew when it can be read.
                known.gauge = None

    def model_paused(self, model: str, reason: str | None) -> None:
        with self._lock:
            self._paused.pop(model, None)
            if reason is not None:
                self._paused[model] = Paused(self._now(), reason)

    def horizon_held(self, bind_key: str | None, held: HeldHorizon | None) -> None:
        with self._lock:
            self._horizons.pop(bind_key, None)
            if held is not None:
                self._horizons[bind_key] = held

    def horizons(self) -> dict[str | None, HeldHorizon]:
        """What holds back the vacuum horizon, by database."""
        with self._lock:
            return dict(self._horizons)

    def gauge(self, name: str) -> Gauge | None:
        """The last measurement of a model; None before the first, and while its table cannot be read."""
        with self._lock:
            model = self._models.get(name)
            return None if model is None else model.gauge

    def is_paused(self, name: str) -> bool:
        with self._lock:
            return name in self._paused

    def failed_signals(self) -> int | None:
        """How many signals of all models are waiting or parked by the last measurements; None while one has none."""
        with self._lock:
            if any(model.unread for model in self._models.values()):
                return None
            gauges = [model.gauge for model in self._models.values() if model.gauge is not None]
        return sum(gauge.waiting + gauge.parked for gauge in gauges)

    @property
    def uptime_seconds(self) -> float:
        return self._clock() - self._started

    def workers(self) -> list[WorkerStatus]:
        """What each worker does, by name."""
        now = self._clock()
        with self._lock:
            found = list(self._workers.values())
        statuses = [replace(status, seconds=max(0.0, now - since)) for status, since in found]
        return sorted(statuses, key=lambda status: (len(status.name), status.name))

    def nodes(self, location: str) -> dict[str, str]:
        """The node of a broker to which each worker is connected, by worker."""
        with self._lock:
            found = [(worker, node) for (worker, broker), node in self._nodes.items() if broker == location]
        return dict(sorted(found, key=lambda one: (len(one[0]), one[0])))

    def models(self) -> list[ModelStatus]:
        """What is known of each model, in the order of the relay."""
        now = self._clock()
        return [self._model(name, now) for name in self._models]

    def model(self, name: str) -> ModelStatus:
        """What is known of one model."""
        return self._model(name, self._clock())

    def _model(self, name: str, now: float) -> ModelStatus:
        # The lock is taken once for each model, so that workers can write in between.
        with self._lock:
            model = self._models[name]
            rates = model.rates
            return ModelStatus(
                name,
                model.gauge,
                tuple(rates.counts(now)),
                rates.per_second(now),
                model.sent,
                model.sent_at,
                self._paused.get(name),
                model.unread,
                self._is_failing(model),
                model.failure,
            )

    def _is_failing(self, model: _Model) -> bool | None:
        if model.sent_at is not None and self._now() - model.sent_at < SENT_LATELY_SECONDS:
            return False
        # Those that have failed since the last was sent may be signals that another replica has tried.
        is_stale = model.sent_at is not None and model.failure is not None and model.sent_at <= model.failure.since
        return None if is_stale and not model.is_failing else model.is_failing
