"""The probe: the one thread that looks for work, with one statement for all models of a database.

While signals flow it looks often, while there are none about once a second, whatever the number of models. Polling
finds every signal; nothing else has to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from signalbus_core import BurstLimits, Measurement, SignalSpec, find_pending, measure, reading, table_problem

from .announce import Announcer
from .dispatch import Dispatcher
from .health import Health
from .metrics import Metrics
from .progress import ModelProgress

T = TypeVar("T")

#: Time limits of a probe. It reads little; when it waits, something is wrong, and other models should not wait too.
PROBE_LIMITS = BurstLimits(statement_timeout_seconds=10.0, lock_timeout_seconds=2.0, idle_timeout_seconds=30.0)

#: Backlog and lag are measured so often. More often: fresher gauges, more queries.
MEASURE_EVERY_SECONDS = 5.0

#: Counting a backlog stops here. Larger: bigger backlogs are shown exactly, and cost more to count.
BACKLOG_COUNTED_TO = 10_000


class TableError(Exception):
    """The tables of some signal models cannot serve as outboxes; the message has one problem a line."""


class Probe:
    """Looks for pending signals and tells the dispatcher.

    :param engines: the engine of each bind key that the models use.
    :param progress: the models by name.
    :param clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        engines: Mapping[str | None, Engine],
        progress: Mapping[str, ModelProgress],
        dispatcher: Dispatcher,
        metrics: Metrics,
        health: Health,
        announcer: Announcer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engines = engines
        self._progress = progress
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._health = health
        self._announcer = announcer
        self._clock = clock
        self._specs = {
            bind_key: [p.spec for p in progress.values() if p.spec.bind_key == bind_key] for bind_key in engines
        }
        #: Whether every database answered the last time.
        self.database_is_up = False
        self._verified: set[str | None] = set()
        self._measured = dict.fromkeys(engines, float("-inf"))
        self._heads: dict[str, tuple[str, float]] = {}

    def run_once(self) -> bool:
        """Look at all models once.

        :returns: whether there is anything to send. True also while a database cannot be asked.
        :raises TableError: a table cannot serve as an outbox.
        """
        unsure = False
        found: list[str] = []
        down: list[str] = []
        for bind_key, engine in self._engines.items():
            thing = "Database" if bind_key is None else f"Database (bind {bind_key!r})"
            try:
                self._verify(bind_key, engine)
                found += self._find(bind_key, engine)
                self._measure(bind_key, engine)
            except SQLAlchemyError as error:
                unsure = True
                reason = _reason(error)
                down.append(f"{thing}: {reason}")
                self._announcer.trouble(thing, "database_down", reason)
            else:
                self._announcer.fine(thing, "database_up")
        self._report_database(down)
        if found:
            self._metrics.wakeups("poll")
            self._dispatcher.found(found)
        return unsure or bool(found)

    def _report_database(self, down: Sequence[str]) -> None:
        self.database_is_up = not down
        self._metrics.set_database_up(not down)
        if down:
            self._health.set_database("down", "; ".join(down))
        else:
            self._health.set_database("up")

    def _verify(self, bind_key: str | None, engine: Engine) -> None:
        if bind_key in self._verified:
            return
        with reading(engine, PROBE_LIMITS) as connection:
            problems = [problem for spec in self._specs[bind_key] if (problem := table_problem(connection, spec))]
        if problems:
            raise TableError("\n".join(problems))
        self._verified.add(bind_key)

    def _find(self, bind_key: str | None, engine: Engine) -> list[str]:
        now = self._clock()

        def ask(specs: Sequence[SignalSpec]) -> list[str]:
            waiting = {spec.name: self._progress[spec.name].waiting_keys(now) for spec in specs}
            with reading(engine, PROBE_LIMITS) as connection:
                return [spec.name for spec in find_pending(connection, specs, waiting)]

        return self._ask_together_or_alone(self._specs[bind_key], ask)

    def _measure(self, bind_key: str | None, engine: Engine) -> None:
        now = self._clock()
        if now - self._measured[bind_key] < MEASURE_EVERY_SECONDS:
            return
        self._measured[bind_key] = now

        def ask(specs: Sequence[SignalSpec]) -> list[tuple[str, Measurement]]:
            with reading(engine, PROBE_LIMITS) as connection:
                measurements = measure(connection, specs, BACKLOG_COUNTED_TO)
            return [(spec.name, measurement) for spec, measurement in zip(specs, measurements, strict=True)]

        for name, measurement in self._ask_together_or_alone(self._specs[bind_key], ask):
            self._metrics.set_parked(name, len(self._progress[name].waiting_keys(now)))
            self._metrics.set_backlog(name, measurement.backlog, self._lag_seconds(name, measurement.head, now))

    def _ask_together_or_alone(
        self, specs: Sequence[SignalSpec], ask: Callable[[Sequence[SignalSpec]], list[T]]
    ) -> list[T]:
        try:
            return ask(specs)
        except ProgrammingError:
            # One table that was dropped or altered must not hide the others.
            answers: list[T] = []
            for spec in specs:
                try:
                    answers += ask([spec])
                except ProgrammingError as error:
                    self._announcer.trouble(spec.name, "model_failing", _reason(error), signal=spec.name)
            return answers

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


def _reason(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split()) or type(cause).__name__
