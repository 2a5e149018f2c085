"""Reports backlog, lag and failed signals as gauges and incidents. Measuring takes at most 10% of the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from signalbus_core.lowlevel import FIRST_KEY, BlockedKey, Measurement, SignalSpec

from ..runtime import Runtime
from ..telemetry.events import Failure
from ..telemetry.incidents import single_signals
from ..worker.model_state import ModelState
from ..worker.retry_store import RetryStores
from .diagnosis.blocked_keys import blocked_thing
from .diagnosis.failures import failures_thing

#: Backlog and lag are measured at this interval. Shorter: fresher gauges, more rows read.
MEASURE_EVERY_SECONDS = 3.0

#: Measuring takes at most one Nth of the time: while a measurement is slow, gauges are refreshed less often.
COSTS_AT_MOST_ONE_IN = 10


class BacklogMeter:
    """Decides when to measure the models of one database, and reports the measurements.

    :param states: the models by name.
    """

    def __init__(self, states: Mapping[str, ModelState], retry_stores: RetryStores, runtime: Runtime) -> None:
        self._states = states
        self._retry_stores = retry_stores
        self._events = runtime.events
        self._clock = runtime.clock
        self._begun = self._due = float("-inf")
        self._failed: dict[str, int] = {}
        self._heads: dict[str, tuple[str, float]] = {}

    def begin(self) -> bool:
        """Whether it is time to measure; if so, the next measurement is scheduled."""
        now = self._clock()
        if now < self._due:
            return False
        self._begun = now
        self._due = now + MEASURE_EVERY_SECONDS
        return True

    def starts(self, specs: Sequence[SignalSpec]) -> dict[str, int | None]:
        """The first key that is measured, by model name; None where there is no low-water mark."""
        return {spec.name: self._start(spec.name) for spec in specs}

    def _start(self, name: str) -> int | None:
        state = self._states[name]
        if not state.low_water.is_kept:
            return None
        mark = state.low_water.mark
        # Signals that bursts leave out may be below the mark, but they count in the backlog.
        leaves_out = self.has_failed(name) or state.avoided()
        return FIRST_KEY if mark is None or leaves_out else mark

    def has_failed(self, name: str) -> bool:
        """Whether the last measurement of the model found waiting or parked signals."""
        return bool(self._failed.get(name))

    def report(
        self,
        measured: Iterable[tuple[str, Measurement]],
        failures: Mapping[str, Failure | None],
        blocked: Mapping[str, Sequence[BlockedKey]],
        *,
        has_table: bool,
    ) -> None:
        """Report the measurements.

        :param failures: why the waiting signals of models have failed, where that was read.
        :param blocked: the keys of models that are held back, where they were read.
        :param has_table: whether ``signalbus_parked`` could be read.
        """
        now = self._clock()
        self._due = self._begun + max(MEASURE_EVERY_SECONDS, COSTS_AT_MOST_ONE_IN * (now - self._begun))
        for name, measurement in measured:
            if not measurement.waiting:
                self._events.resolved(failures_thing(name), "model_recovered", name)
            if not measurement.blocked:
                self._events.resolved(blocked_thing(name), "model_recovered", name)
            if has_table and (not measurement.waiting or name in failures):
                self._events.failure_read(name, failures.get(name))
            self._events.backlog_measured(name, measurement.backlog, self._lag_seconds(name, measurement, now))
            self._events.scheduled_counted(name, measurement.scheduled)
            counted = (measurement.waiting, measurement.parked)
            if not has_table:
                counted = self._retry_stores[name].count()
            self._report_failed(name, *counted)
            if self._states[name].spec.order is not None:
                self._events.blocked_counted(name, measurement.blocked if has_table else self._blocking(name))
            if name in blocked:
                self._events.blocked_named(name, tuple(blocked[name]))

    def _blocking(self, name: str) -> int:
        """How many failed signals hold back their keys in the bursts of this process, where there is no table."""
        choice = self._retry_stores[name].choice(())
        return len(choice.exclude) - len(choice.passed_over)

    def _report_failed(self, name: str, waiting: int, parked: int) -> None:
        self._events.failed_counted(name, waiting, parked)
        if waiting + parked and not self.has_failed(name):
            # Failed signals may be below the mark at which this measurement began: measure again soon.
            self._due = float("-inf")
        self._failed[name] = waiting + parked
        self._states[name].set_has_room(waiting + parked < self._retry_stores[name].most)
        # When the last waiting signal was parked, none waits either, but the incident is not resolved.
        if not waiting and (not parked or self._states[name].flows_again()):
            self._events.resolved(single_signals(name), "signals_flow_again", name)

    def _lag_seconds(self, name: str, measurement: Measurement, now: float) -> float:
        """The age of the oldest signal: since it was written, or else since it was first measured as the oldest."""
        head = measurement.head
        if head is None:
            self._heads.pop(name, None)
            return 0.0
        seen, since = self._heads.get(name, (None, now))
        if seen != head:
            since = now
            self._heads[name] = (head, since)
        # The age is negative when the clock of the writer is ahead.
        return now - since if measurement.age_seconds is None else max(0.0, measurement.age_seconds)
