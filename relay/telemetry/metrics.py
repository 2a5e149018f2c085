"""All Prometheus instruments. They count only after the commit; every series exists from the first scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime

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
from .histogram import BatchHistogram

BURST_OUTCOMES = ("sent", "partial", "failed", "empty")
PHASES = ("lock", "send", "commit")
FAILURE_REASONS = ("returned", "nacked", "refused", "invalid", "unknown", "error")
WAKEUP_CAUSES = ("doorbell", "poll", "catchup")
STATES = ("starting", "running", "draining")

#: The content type of what :meth:`Metrics.render` returns.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The relay's instruments, in a registry of their own.

    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(self, registry: CollectorRegistry | None = None, now: Callable[[], float] = time.time) -> None:
        self.registry = registry or CollectorRegistry()
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
            "signalbus_backlog_signals", "Signals in the table; counting stops at 10000.", "signal"
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
        self._paused = self._gauge("signalbus_paused", "1 while the model is paused: relays leave it alone.", "signal")
        self._dead_rows = self._gauge(
            "signalbus_dead_rows", "Deleted rows that are still in the table, by PostgreSQL's statistics.", "signal"
        )
        self._horizon = self._gauge(
            "signalbus_horizon_held_seconds",
            "For how long dead rows of signals have been kept alive; 0 when they are not.",
        )
        self._broker_up = self._gauge("signalbus_broker_up", "1 when a connection to the broker is open.")
        self._broker_blocked = self._gauge("signalbus_broker_blocked", "1 while the broker takes no messages.")
        self._database_up = self._gauge("signalbus_database_up", "1 when every database answered the last poll.")
        self._wakeups = self._counter("signalbus_wakeups", "Polls that found signals, by what caused them.", "cause")
        self._last_success = self._gauge(
            "signalbus_last_success_timestamp_seconds", "When signals were last sent; 0 when never.", "signal"
        )
        self._state = self._gauge("signalbus_relay_state", "1 for the state that the relay is in.", "state")
        self._gauge("signalbus_build_info", "Always 1; the label tells the version.", "version").labels(
            __version__
        ).set(1)
        for cause in WAKEUP_CAUSES:
            self._wakeups.labels(cause)
        self.set_relay_state("starting")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def prepare(self, signals: Iterable[str]) -> None:
        """Create the series of these signal models, at zero."""
        for name in signals:
            self._latencies.prepare(name)
            for instrument in (
                *(self._sent, self._burst_size, self._duplicates, self._backlog, self._lag, self._parked),
                *(self._waiting, self._paused, self._last_success, self._dead_rows),
            ):
                instrument.labels(name)
            for instrument, values in (
                (self._bursts, BURST_OUTCOMES),
                (self._burst_duration, PHASES),
                (self._failures, FAILURE_REASONS),
            ):
                for value in values:
                    instrument.labels(name, value)

    def burst_finished(self, name: str, result: BurstResult) -> None:
        """Count a burst that ended."""
        self._bursts.labels(name, _outcome(result)).inc()
        if not result.selected:
            return
        self._burst_size.labels(name).observe(result.selected)
        for phase, seconds in zip(
            PHASES, (result.lock_seconds, result.send_seconds, result.commit_seconds), strict=True
        ):
            self._burst_duration.labels(name, phase).observe(seconds)
        if result.sent:
            self._sent.labels(name).inc(result.sent)
            now = self._now()
            self._last_success.labels(name).set(now)
            self._latencies.observe(name, [now - stamp for stamp in map(datetime.timestamp, result.written_at)])
        self._duplicates.labels(name).inc(result.possible_duplicates)
        for failed in result.failed:
            # These causes are special cases of "unknown": whether the broker has the message is not known.
            cause = "unknown" if failed.outcome.cause in ("closed", "silent") else failed.outcome.cause
            self._failures.labels(name, cause if cause in FAILURE_REASONS else "error").inc()
        if result.error is not None and not result.failed:
            self._failures.labels(name, "error").inc(result.selected - result.sent)

    def burst_failed(self, name: str, possible_duplicates: int = 0) -> None:
        """Count a burst that a database error or a BurstError ended early."""
        self._bursts.labels(name, "failed").inc()
        self._duplicates.labels(name).inc(possible_duplicates)

    def set_backlog(self, name: str, backlog: int, lag_seconds: float) -> None:
        self._backlog.labels(name).set(backlog)
        self._lag.labels(name).set(lag_seconds)

    def set_set_aside(self, name: str, waiting: int, parked: int) -> None:
        self._waiting.labels(name).set(waiting)
        self._parked.labels(name).set(parked)

    def set_paused(self, name: str, is_paused: bool) -> None:
        self._paused.labels(name).set(is_paused)

    def set_dead_rows(self, name: str, dead_rows: int) -> None:
        self._dead_rows.labels(name).set(dead_rows)

    def set_horizon_held(self, seconds: float) -> None:
        self._horizon.set(seconds)

    def set_database_up(self, is_up: bool) -> None:
        self._database_up.set(is_up)

    def set_broker(self, *, up: bool, blocked: bool) -> None:
        self._broker_up.set(up)
        self._broker_blocked.set(blocked)

    def set_relay_state(self, state: str) -> None:
        for one in STATES:
            self._state.labels(one).set(one == state)

    def wakeups(self, cause: str) -> None:
        self._wakeups.labels(cause).inc()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _outcome(result: BurstResult) -> str:
    if not result.selected:
        return "empty"
    if result.sent == result.selected:
        return "sent"
    return "partial" if result.sent else "failed"
