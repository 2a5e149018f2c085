"""Backlog, lag, and what is set aside: what the probe has measured, as gauges and as news."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from signalbus_core import Measurement

from .announce import Announcer, single_signals
from .metrics import Metrics
from .progress import ModelProgress
from .shelf import Shelves
from .status import Status

#: Backlog and lag are measured so often. More often: fresher gauges, more to read.
MEASURE_EVERY_SECONDS = 5.0

#: Counting a backlog stops here. Larger: bigger backlogs are shown exactly, and cost more to count.
BACKLOG_COUNTED_TO = 10_000


class Gauging:
    """Says when to measure, and reports what was measured.

    :param progress: the models by name.
    :param clock: a monotonic clock, in seconds.
    :param status: the board that it writes on.
    """

    def __init__(
        self,
        progress: Mapping[str, ModelProgress],
        shelves: Shelves,
        metrics: Metrics,
        announcer: Announcer,
        clock: Callable[[], float] = time.monotonic,
        status: Status | None = None,
    ) -> None:
        self._progress = progress
        self._shelves = shelves
        self._metrics = metrics
        self._announcer = announcer
        self._clock = clock
        self._status = status or Status(progress)
        self._measured: dict[str | None, float] = {}
        self._set_aside: dict[str, int] = {}
        self._heads: dict[str, tuple[str, float]] = {}

    def begin(self, bind_key: str | None) -> bool:
        """Whether it is time to measure the models of a database; what is begun so is not asked for again soon."""
        now = self._clock()
        if now - self._measured.get(bind_key, float("-inf")) < MEASURE_EVERY_SECONDS:
            return False
        self._measured[bind_key] = now
        return True

    def has_set_aside(self, name: str) -> bool:
        """Whether signals of the model were set aside when it was measured."""
        return bool(self._set_aside.get(name))

    def report(self, measured: Iterable[tuple[str, Measurement]], *, has_table: bool) -> None:
        """Show what was measured of models.

        :param has_table: whether the table of signals that are set aside was there to be read.
        """
        now = self._clock()
        for name, measurement in measured:
            lag_seconds = self._lag_seconds(name, measurement.head, now)
            self._metrics.set_backlog(name, measurement.backlog, lag_seconds)
            self._status.measured(name, measurement.backlog, lag_seconds)
            noted = (measurement.waiting, measurement.parked)
            self._report_set_aside(name, *(noted if has_table else self._shelves[name].count()))

    def _report_set_aside(self, name: str, waiting: int, parked_signals: int) -> None:
        self._metrics.set_set_aside(name, waiting, parked_signals)
        self._status.set_aside(name, waiting, parked_signals)
        self._set_aside[name] = waiting + parked_signals
        self._progress[name].can_set_aside(waiting + parked_signals < self._shelves[name].most)
        # None waits either when the last was parked, and that is no flow.
        if not waiting and (not parked_signals or self._progress[name].flows_again()):
            self._announcer.fine(single_signals(name), "signals_flow_again", signal=name)

    def _lag_seconds(self, name: str, head: str | None, now: float) -> float:
        """For how long the oldest signal has been seen at the head of its table."""
        if head is None:
            self._heads.pop(name, None)
            return 0.0
        seen, since = self._heads.get(name, (None, now))
        if seen != head:
            since = now
            self._heads[name] = (head, since)
        return now - since
