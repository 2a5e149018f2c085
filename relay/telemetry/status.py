"""The present state of the relay: its threads report to it, and the HTTP server reads it.

Invariant: each write is one short step under a lock; a reader copies, and delays no writer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from signalbus_core.lowlevel import BurstResult

from .events import BurstSummary, Doing, Events, HeldHorizon
from .throughput import Throughput


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker does.

    :param signals: how many signals it sends at the moment.
    :param seconds: for how long it has been doing that.
    """

    name: str
    doing: Doing
    model: str | None = None
    signals: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Gauge:
    """The last measurement of a model, with its time by the wall clock."""

    backlog: int
    lag_seconds: float
    at: float
    waiting: int = 0
    parked: int = 0


NOT_MEASURED = Gauge(0, 0.0, 0.0)


@dataclass(frozen=True)
class ModelStatus:
    """What is known of a signal model.

    :param gauge: None before the first measurement.
    :param counts: signals sent in each bucket of the last minutes, oldest first.
    :param sent: since the relay started.
    :param sent_at: when signals were sent last, by the wall clock.
    """

    name: str
    gauge: Gauge | None
    counts: tuple[int, ...]
    per_second: float
    sent: int
    sent_at: float | None
    paused: Paused | None = None


@dataclass(frozen=True)
class Paused:
    """A pause of a model.

    :param seen_at: since when the relay has known of it, by the wall clock.
    :param reason: empty when none was given.
    """

    seen_at: float
    reason: str


class _Model:
    def __init__(self, now: float) -> None:
        self.rates = Throughput(now)
        self.gauge: Gauge | None = None
        self.sent = 0
        self.sent_at: float | None = None


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

    def burst_ended(self, model: str, result: BurstResult, decision: BurstSummary) -> None:
        if not result.sent:
            return
        with self._lock:
            known = self._models[model]
            known.rates.add(result.sent, self._clock())
            known.sent += result.sent
            known.sent_at = self._now()

    def backlog_measured(self, model: str, backlog: int, lag_seconds: float) -> None:
        with self._lock:
            known = self._models[model]
            known.gauge = replace(known.gauge or NOT_MEASURED, backlog=backlog, lag_seconds=lag_seconds, at=self._now())

    def failed_counted(self, model: str, waiting: int, parked: int) -> None:
        with self._lock:
            known = self._models[model]
            before = known.gauge or replace(NOT_MEASURED, at=self._now())
            known.gauge = replace(before, waiting=waiting, parked=parked)

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

    def gauge(self, name: str) -> Gauge:
        """The last measurement of a model; zeros before the first."""
        with self._lock:
            model = self._models.get(name)
            return NOT_MEASURED if model is None or model.gauge is None else model.gauge

    def is_paused(self, name: str) -> bool:
        with self._lock:
            return name in self._paused

    def failed_signals(self) -> int:
        """How many signals of all models are waiting or parked, according to the last measurements."""
        with self._lock:
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

    def models(self) -> list[ModelStatus]:
        """What is known of each model, in the order of the relay."""
        now = self._clock()
        return [self._model(name, now) for name in self._models]

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
            )
