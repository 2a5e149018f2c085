"""All Prometheus instruments. They count only after the commit; every series exists from the first scrape.

Gauges of what :class:`Health` or :class:`Status` know are read from there when they are scraped. A new gauge of a
present state is an event in ``events``, kept by ``status`` or ``health``, and read here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from functools import partial

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from signalbus_core.lowlevel import BurstResult

from .. import __version__
from .events import BurstSummary, Events
from .health import Health
from .histogram import BatchHistogram
from .states import STATES as MODEL_STATES
from .states import ModelStates
from .status import Status

BURST_OUTCOMES = ("sent", "partial", "failed", "empty")
PHASES = ("lock", "send", "commit")
FAILURE_REASONS = ("returned", "nacked", "refused", "invalid", "unknown", "error")
WAKEUP_CAUSES = ("doorbell", "poll", "catchup")
STATES = ("starting", "running", "draining")

#: The content type of what :meth:`Metrics.render` returns.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Events):
    """The relay's instruments, in a registry of their own.

    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        now: Callable[[], float] = time.time,
        health: Health | None = None,
        status: Status | None = None,
        states: ModelStates | None = None,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        health = health or Health(math.inf)
        self._status = status or Status(())
        self._states = states
        self._now = now
        # No ``_created`` series beside the documented ones.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        # Gauges about tables are the same in every replica: aggregate them with max(), and counters with sum().
        self._sent = self._counter("signalbus_signals_sent", "Signals sent and deleted.", "signal")
        self._bursts = self._counter("signalbus_bursts", "Bursts, by what became of them.", "signal", "outcome")
        self._burst_size = Histogram(
            "signalbus_burst_size",
            "Signals locked in a burst.",
            ["signal"],
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
            registry=self.registry,
        )
        self._burst_duration = Histogram(
            "signalbus_burst_duration_seconds",
            "Time that a burst spends in each phase.",
            ["signal", "phase"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            registry=self.registry,
        )
        self._failures = self._counter(
            "signalbus_publish_failures", "Signals that were tried and not sent, by reason.", "signal", "reason"
        )
        self._duplicates = self._counter(
            "signalbus_possible_duplicates", "Signals that may have been sent and will be sent again.", "signal"
        )
        self._latencies = BatchHistogram()
        self.registry.register(self._latencies)
        self._backlog = self._gauge(
            "signalbus_backlog_signals", "Signals in the table that are due; counting stops at 10000.", "signal"
        )
        self._scheduled = self._gauge(
            "signalbus_scheduled_signals", "Signals that are not due yet; counting stops at 10000.", "signal"
        )
        self._lag = self._gauge(
            "signalbus_lag_seconds",
            "Age of the oldest signal that is not parked; without a time of writing, since the relay first saw it.",
            "signal",
        )
        self._parked = self._gauge(
            "signalbus_parked_signals", "Signals that failed too often and wait for a person.", "signal"
        )
        self._waiting = self._gauge(
            "signalbus_waiting_signals", "Signals that failed and wait for their next try.", "signal"
        )
        self._blocked = self._gauge(
            "signalbus_blocked_keys", "Keys of an ordered model that a failed signal holds back.", "signal"
        )
        self._paused = self._gauge("signalbus_paused", "1 while the model is paused: relays leave it alone.", "signal")
        self._state = self._gauge("signalbus_model_state", "1 for the state that the model is in.", "signal", "state")
        self._dead_rows = self._gauge(
            "signalbus_dead_rows", "Deleted rows that are still in the table, by PostgreSQL's statistics.", "signal"
        )
        self._gauge(
            "signalbus_horizon_held_seconds",
            "For how long dead rows of signals have been kept alive; 0 when they are not.",
        ).set_function(lambda: max((held.seconds for held in self._status.horizons().values()), default=0.0))
        self._gauge("signalbus_broker_up", "1 when a connection to the broker is open.").set_function(
            lambda: health.broker() in ("up", "blocked")
        )
        self._gauge("signalbus_broker_blocked", "1 while the broker takes no messages.").set_function(
            lambda: health.broker() == "blocked"
        )
        self._gauge("signalbus_database_up", "1 when every database answered the last poll.").set_function(
            lambda: health.database == "up"
        )
        self._wakeups = self._counter("signalbus_wakeups", "How workers came to know of signals.", "cause")
        self._last_success = self._gauge(
            "signalbus_last_success_timestamp_seconds", "When signals were last sent; 0 when never.", "signal"
        )
        of_relay = self._gauge("signalbus_relay_state", "1 for the state that the relay is in.", "state")
        for name in STATES:
            of_relay.labels(name).set_function(partial(_is_in, health, name))
        self._gauge("signalbus_build_info", "Always 1; the label tells the version.", "version").labels(
            __version__
        ).set(1)
        for cause in WAKEUP_CAUSES:
            self._wakeups.labels(cause)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def prepare(self, signals: Iterable[str]) -> None:
        """Create the series of these signal models, at zero."""
        for name in signals:
            self._latencies.prepare(name)
            for instrument in (self._sent, self._burst_size, self._duplicates, self._last_success, self._dead_rows):
                instrument.labels(name)
            for gauge, attribute in (
                (self._backlog, "backlog"),
                (self._lag, "lag_seconds"),
                (self._waiting, "waiting"),
                (self._parked, "parked"),
                (self._blocked, "blocked_keys"),
                (self._scheduled, "scheduled"),
            ):
                gauge.labels(name).set_function(partial(self._measured, name, attribute))
            self._paused.labels(name).set_function(partial(self._status.is_paused, name))
            for state in MODEL_STATES:
                self._state.labels(name, state).set_function(partial(self._is_model_in, name, state))
            for instrument, values in (
                (self._bursts, BURST_OUTCOMES),
                (self._burst_duration, PHASES),
                (self._failures, FAILURE_REASONS),
            ):
                for value in values:
                    instrument.labels(name, value)

    def _measured(self, name: str, attribute: str) -> float:
        # What cannot be read is not 0.
        gauge = self._status.gauge(name)
        return math.nan if gauge is None else float(getattr(gauge, attribute))

    def _is_model_in(self, name: str, state: str) -> bool:
        return self._states is not None and self._states.word(name) == state

    def burst_ended(self, model: str, result: BurstResult, decision: BurstSummary) -> None:
        if decision.more:
            self._wakeups.labels("catchup").inc()
        self._bursts.labels(model, _outcome(result)).inc()
        if not result.selected:
            return
        self._burst_size.labels(model).observe(result.selected)
        for phase, seconds in zip(
            PHASES, (result.lock_seconds, result.send_seconds, result.commit_seconds), strict=True
        ):
            self._burst_duration.labels(model, phase).observe(seconds)
        if result.sent:
            self._sent.labels(model).inc(result.sent)
            now = self._now()
            self._last_success.labels(model).set(now)
            self._latencies.observe(model, [now - stamp for stamp in map(datetime.timestamp, result.written_at)])
        self._duplicates.labels(model).inc(result.possible_duplicates)
        for failed in result.failed:
            # These causes are special cases of "unknown": whether the broker has the message is not known.
            cause = "unknown" if failed.outcome.cause in ("closed", "silent") else failed.outcome.cause
            self._failures.labels(model, cause if cause in FAILURE_REASONS else "error").inc()
        if result.error is not None and not result.failed:
            self._failures.labels(model, "error").inc(result.selected - result.sent)

    def burst_interrupted(self, model: str, decision: BurstSummary, possible_duplicates: int = 0) -> None:
        self._bursts.labels(model, "failed").inc()
        self._duplicates.labels(model).inc(possible_duplicates)

    def database_polled(
        self, database: str, error: str | None, found: Collection[str] = (), cause: str = "poll"
    ) -> None:
        if found:
            self._wakeups.labels(cause).inc()

    def rung(self, models: Collection[str]) -> None:
        self._wakeups.labels("doorbell").inc(len(models))

    def dead_rows_counted(self, model: str, dead_rows: int) -> None:
        self._dead_rows.labels(model).set(dead_rows)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _is_in(health: Health, state: str) -> bool:
    return health.state == state


def _outcome(result: BurstResult) -> str:
    if not result.selected:
        return "empty"
    if result.sent == result.selected:
        return "sent"
    return "partial" if result.sent else "failed"
