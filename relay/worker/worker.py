"""A worker: one thread that takes a model, sends a burst, counts what was committed, and gives the model back.

Invariant: while the broker or the database is away it holds no row locks. Between bursts it keeps its broker connection
alive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import BurstError, SignalBus
from signalbus_core.lowlevel import (
    UNDELETED,
    BurstLimits,
    BurstResult,
    Choice,
    DueSignal,
    FailedSignal,
    Key,
    Proved,
    SignalSpec,
    delete_sent,
    own_session,
    send_burst,
)

from ..scheduler import Scheduler
from ..telemetry.health import Health
from ..telemetry.incidents import Incidents, single_signals
from ..telemetry.metrics import Metrics
from ..telemetry.status import Status
from .backoff import Backoff
from .broker_connections import BrokerConnections
from .hanging import EmptyBursts
from .model_state import BurstPlan, ModelState, Verdict
from .notes import Due
from .retry_store import RetryStores

logger = logging.getLogger("signalbus.relay.worker")

#: The longest wait of a worker between two calls of Health.beat(). Longer: its connection may miss an AMQP heartbeat.
LONGEST_WAIT_SECONDS = 1.0

#: Progress within a burst is recorded at most once in so many seconds.
BEAT_EVERY_SECONDS = 1.0


class Worker:
    """Sends bursts, one after the other, until the stop event is set.

    :param name: of the thread, for logs and health.
    :param link: the worker's own connections to the broker.
    :param clock: a monotonic clock, in seconds.
    :param status: records what the worker does.
    :param empty: records how many signals each burst locked.
    :param retires: called between two bursts; the worker ends when it returns True.
    """

    def __init__(
        self,
        name: str,
        app: Flask,
        bus: SignalBus,
        progress: Mapping[str, ModelState],
        retry_stores: RetryStores,
        limits: BurstLimits,
        scheduler: Scheduler,
        link: BrokerConnections,
        metrics: Metrics,
        health: Health,
        incidents: Incidents,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        status: Status | None = None,
        empty: EmptyBursts | None = None,
        retires: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self._app = app
        self._bus = bus
        self._progress = progress
        self._retry_stores = retry_stores
        self._limits = limits
        self._scheduler = scheduler
        self._link = link
        self._metrics = metrics
        self._health = health
        self._incidents = incidents
        self._stop = stop
        self._clock = clock
        self._status = status or Status(progress)
        self._empty = empty or EmptyBursts(clock)
        self._retires = retires
        self._moved_at = float("-inf")
        #: Whether it has ended because it was not needed any more.
        self.has_retired = False

    def run(self) -> None:
        """The thread's main function."""
        backoff = Backoff()
        try:
            while not self._stop.is_set():
                if self._retires():
                    self.has_retired = True
                    return
                try:
                    self.run_once()
                except BaseException:
                    # No known error arrives here. The thread goes on; signals stay in their tables meanwhile.
                    logger.exception("%s: unexpected error; it goes on.", self.name, extra={"action": "worker_error"})
                    self._status.worker(self.name, "backing off")
                    self._stop.wait(backoff.failed())
                else:
                    backoff.succeeded()
        finally:
            self._status.worker(self.name, "stopped")
            self._link.close()
            if self.has_retired:
                self._status.forget_worker(self.name)
                self._health.forget(self.name)

    def run_once(self) -> None:
        """Wait for a model with work, and send one burst of it."""
        self._health.beat(self.name)
        if not self._link.is_ready():
            self._status.worker(self.name, "waiting for the broker")
            self._stop.wait(min(self._link.retry_in_seconds(), LONGEST_WAIT_SECONDS))
            return
        self._status.worker(self.name, "idle")
        name = self._scheduler.take(min(self._link.pump_every_seconds, LONGEST_WAIT_SECONDS), self.name)
        if name is None:
            return
        verdict = Verdict(more=False, wait_seconds=LONGEST_WAIT_SECONDS)
        sent = False
        try:
            verdict, sent = self._send_burst(self._progress[name])
        finally:
            self._scheduler.give_back(
                name, more=verdict.more, wait_seconds=verdict.wait_seconds, sent=sent, worker=self.name
            )
        if verdict.more:
            self._metrics.wakeups("catchup")

    def _send_burst(self, progress: ModelState) -> tuple[Verdict, bool]:
        name = progress.spec.name
        sent = False
        plan = progress.plan(self._clock())
        try:
            due = self._due(name, plan)
            result = self._scan(progress, plan) if due is None else self._try_again(progress.spec, plan, due)
        except (BurstError, SQLAlchemyError) as error:
            self._metrics.burst_failed(name, possible_duplicates=error.sent if isinstance(error, BurstError) else 0)
            verdict = progress.interrupted(error)
        else:
            sent = result.sent > 0
            self._empty.ended(name, result.selected)
            if sent or not result.selected:
                # Nothing to lock, although signals are pending: other relays are sending them. If this lasts, Unreached
                # raises an incident for the model.
                self._health.flowed()
            self._metrics.burst_finished(name, result)
            self._status.sent(name, result.sent)
            _log_burst(progress.spec, result)
            verdict = progress.finished(plan, result, self._clock())
            try:
                self._note(progress, plan, due or Due(), result, verdict)
            except SQLAlchemyError as error:
                # The burst itself is committed and counted.
                verdict = progress.interrupted(error)
        if verdict.trouble is not None:
            self._incidents.raised(name, "model_failing", verdict.trouble, signal=name)
        elif verdict.recovered:
            self._incidents.resolved(name, "model_recovered", signal=name)
        return verdict, sent

    def _due(self, name: str, plan: BurstPlan) -> Due | None:
        """The signals that the burst tries; None when it takes the lowest keys."""
        if plan.proved:
            return Due(tuple(DueSignal(one.key, "", UNDELETED, version=one.version) for one in plan.proved), True)
        if plan.suspect is not None:
            return Due()
        return self._retry_stores[name].take_due(plan.limit, plan.avoid) if plan.retry else None

    def _scan(self, progress: ModelState, plan: BurstPlan) -> BurstResult:
        """An ordinary burst: the lowest keys from the low-water mark on."""
        low_water = progress.low_water
        scan = low_water.begin(self._clock())
        try:
            choice = self._retry_stores[progress.spec.name].choice(plan.avoid)
            result = self._try_burst(progress.spec, plan, replace(choice, start=scan.start))
        except BaseException:
            low_water.give_up(scan)
            raise
        low_water.saw(scan, result.keys[0][0] if result.keys else None, result.lock_seconds)
        if result.is_outage:
            low_water.give_up(scan)
        return result

    def _try_again(self, spec: SignalSpec, plan: BurstPlan, due: Due) -> BurstResult:
        if plan.suspect is not None:
            return self._try_burst(spec, plan, self._retry_stores[spec.name].retry((plan.suspect,)))
        if not due.signals:
            # Another relay has taken them.
            return BurstResult(selected=0)
        if due.is_delete:
            self._status.worker(self.name, "locking", spec.name)
            proved = plan.proved or [Proved(one.key, one.version) for one in due.signals]
            return delete_sent(self._retry_stores.engine(spec.name), spec, proved, limits=self._limits)
        return self._try_burst(spec, plan, self._retry_stores[spec.name].retry(due.keys))

    def _try_burst(self, spec: SignalSpec, plan: BurstPlan, choice: Choice) -> BurstResult:
        self._status.worker(self.name, "locking", spec.name)
        with own_session(self._bus.db, self._app) as session:
            return send_burst(
                session,
                spec,
                limit=plan.limit,
                choice=choice,
                limits=self._limits,
                rehearse=plan.rehearse,
                can_keep_rows=plan.can_keep_rows,
                on_locked=partial(self._locked, spec.name),
                on_progress=partial(self._moved, spec.name),
            )

    def _locked(self, name: str, signals: int) -> None:
        self._status.worker(self.name, "sending", name, signals)
        self._moved_at = float("-inf")
        self._moved(name)

    def _moved(self, name: str) -> None:
        """A burst makes progress: its thread does not count as stuck, however long the burst takes."""
        now = self._clock()
        if now - self._moved_at >= BEAT_EVERY_SECONDS:
            self._moved_at = now
            self._health.beat(self.name)
            self._scheduler.moved(name, self.name)

    def _note(self, progress: ModelState, plan: BurstPlan, due: Due, result: BurstResult, verdict: Verdict) -> None:
        name, retry_store = progress.spec.name, self._retry_stores[progress.spec.name]
        if plan.suspect is not None and not result.selected and not self._retry_stores.versions(name, [plan.suspect]):
            progress.forget(plan.suspect)
        if verdict.failed:
            parked = retry_store.put(verdict.failed, verdict.evidence, is_retry=not plan.is_scan)
            self._tell(name, verdict.failed, parked)
        progress.mark_noted(result.undeleted)
        if plan.retry and due.signals:
            retry_store.tried(due, result, [one.key for one in verdict.failed])
            # Other signals may be due as well, and need not wait for the next poll.
            progress.mark_retry_due()

    def _tell(self, name: str, failed: Sequence[FailedSignal], parked: Collection[Key]) -> None:
        """Raise the incident for failed signals, and log those that were parked."""
        first = failed[0]
        self._incidents.raised(
            single_signals(name),
            "signals_set_aside",
            f"{len(failed)} failed and wait for their next try; first: {_shown(first.key)}, {_why(first)}",
            signal=name,
        )
        for one in failed:
            if one.key in parked:
                logger.warning(
                    "%s: signal %s is parked after it failed too often; it waits for a person: %s",
                    name,
                    _shown(one.key),
                    _why(one),
                    extra={"action": "signal_parked", "signal": name, "key": _shown(one.key)},
                )


def _why(failed: FailedSignal) -> str:
    if failed.outcome.cause == UNDELETED:
        return f"was sent; cannot be deleted: {failed.outcome.reason}"
    return str(failed.outcome)


def _shown(key: tuple[object, ...]) -> str:
    return ", ".join(str(part) for part in key)


def _log_burst(spec: SignalSpec, result: BurstResult) -> None:
    if not result.selected:
        return
    logger.debug(
        "%s: %d of %d signals sent.",
        spec.name,
        result.sent,
        result.selected,
        extra={
            "action": "burst_sent",
            "signal": spec.name,
            "lock_seconds": round(result.lock_seconds, 4),
            "send_seconds": round(result.send_seconds, 4),
            "commit_seconds": round(result.commit_seconds, 4),
        },
    )
