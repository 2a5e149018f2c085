"""The probe: the one thread that looks for work, with one statement for all models of a database.

While signals flow it looks often, while there are none about once a second, whatever the number of models. Polling
finds every signal; nothing else has to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError, SQLAlchemyError

from signalbus_core import (
    BurstLimits,
    Choice,
    Measurement,
    SignalSpec,
    Work,
    error_text,
    find_work,
    measure,
    parked_table_of,
    parked_table_problem,
    table_problem,
    transaction,
)

from .announce import Announcer, single_signals
from .dispatch import Dispatcher
from .health import Health
from .metrics import Metrics
from .progress import ModelProgress
from .shelf import Shelves

logger = logging.getLogger("signalbus.relay")

T = TypeVar("T")

#: Time limits of a probe. It reads little; when it waits, something is wrong, and other models should not wait too.
PROBE_LIMITS = BurstLimits(statement_timeout_seconds=10.0, lock_timeout_seconds=2.0, idle_timeout_seconds=10.0)

#: What PostgreSQL calls a lock that was not to be had in time.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
LOCK_NOT_AVAILABLE = "55P03"

#: Backlog and lag are measured so often. More often: fresher gauges, more queries.
MEASURE_EVERY_SECONDS = 5.0

#: So often it is looked whether the table of parked signals is there, and signals that are gone are forgotten.
TIDY_EVERY_SECONDS = 60.0

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
        shelves: Shelves,
        dispatcher: Dispatcher,
        metrics: Metrics,
        health: Health,
        announcer: Announcer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engines = engines
        self._progress = progress
        self._shelves = shelves
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
        self._looked = dict.fromkeys(engines, float("-inf"))
        self._tidied = dict.fromkeys(engines, float("-inf"))
        self._set_aside: dict[str, int] = {}
        self._has_parked_table: dict[str | None, bool] = {}
        self._heads: dict[str, tuple[str, float]] = {}
        # The models whose tables were no good in this look: what waits for a lock once need not wait again.
        self._passed_over: set[str] = set()

    def run_once(self) -> bool:
        """Look at all models once.

        :returns: whether there is anything to send. True also while a database cannot be asked.
        :raises TableError: a table cannot serve as an outbox.
        """
        unsure = False
        self._passed_over.clear()
        found: list[str] = []
        down: list[str] = []
        for bind_key, engine in self._engines.items():
            thing = "Database" if bind_key is None else f"Database (bind {bind_key!r})"
            try:
                self._verify(bind_key, engine)
                self._look_for_parked_table(bind_key, engine)
                found += self._find(bind_key, engine)
                self._measure(bind_key, engine)
                self._tidy(bind_key)
            except SQLAlchemyError as error:
                unsure = True
                reason = error_text(error)
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
        with transaction(engine, PROBE_LIMITS) as connection:
            problems = [problem for spec in self._specs[bind_key] if (problem := table_problem(connection, spec))]
        if problems:
            raise TableError("\n".join(problems))
        self._verified.add(bind_key)

    def _look_for_parked_table(self, bind_key: str | None, engine: Engine) -> None:
        now = self._clock()
        if now - self._looked[bind_key] < TIDY_EVERY_SECONDS:
            return
        table = parked_table_of(self._specs[bind_key][0])
        with transaction(engine, PROBE_LIMITS) as connection:
            problem = parked_table_problem(connection, table)
        self._looked[bind_key] = now
        self._shelves.use_table(bind_key, problem is None)
        if self._has_parked_table.get(bind_key, True) != (problem is None):
            if problem is None:
                logger.info("The table %s is there now.", table.fullname, extra={"action": "parked_table_found"})
            else:
                logger.warning(
                    "The table %s %s. Signals that fail are noted in the memory of each relay, and lose their attempts "
                    "when it ends. Create the table: `signalbus-relay ddl parked` prints it, "
                    "db.create_all() and Alembic know it.",
                    table.fullname,
                    problem,
                    extra={"action": "parked_table_missing"},
                )
        self._has_parked_table[bind_key] = problem is None

    def _tidy(self, bind_key: str | None) -> None:
        # Last, and one model at a time: a note that cannot be read must not keep signals from being found.
        now = self._clock()
        if now - self._tidied[bind_key] < TIDY_EVERY_SECONDS:
            return
        self._tidied[bind_key] = now
        for spec in self._specs[bind_key]:
            if self._set_aside.get(spec.name) and spec.name not in self._passed_over:
                thing = f"{spec.name}, what is noted of its signals"
                with self._hiding_no_other(spec, thing):
                    self._shelves[spec.name].tidy()
                    self._announcer.fine(thing, "model_recovered", signal=spec.name)

    def _find(self, bind_key: str | None, engine: Engine) -> list[str]:
        def ask(specs: Sequence[SignalSpec]) -> list[str]:
            with transaction(engine, PROBE_LIMITS) as connection:
                work = find_work(connection, specs, {spec.name: self._choice(spec.name) for spec in specs})
            return [one.spec.name for one in work if self._has_work(one)]

        return self._ask_together_or_alone(self._specs[bind_key], ask)

    def _has_work(self, work: Work) -> bool:
        name = work.spec.name
        progress = self._progress[name]
        due = work.due or self._shelves[name].has_due()
        if due:
            progress.retry_is_due()
        if due or work.pending or progress.has_due_suspect(self._clock()):
            return True
        if progress.nothing_is_left():
            # Another relay may have sent what this one could not.
            self._announcer.fine(name, "model_recovered", signal=name)
        return False

    def _choice(self, name: str) -> Choice:
        return self._shelves[name].choice(self._progress[name].avoided())

    def has_suspects(self) -> bool:
        """Whether signals are left out of bursts because they may have brought about an outage."""
        return any(progress.avoided() for progress in self._progress.values())

    def count_set_aside(self) -> int:
        """How many signals wait for their next try or are parked, of all models."""
        return sum(sum(self._shelves[name].count()) for name in self._progress)

    def _measure(self, bind_key: str | None, engine: Engine) -> None:
        now = self._clock()
        if now - self._measured[bind_key] < MEASURE_EVERY_SECONDS:
            return
        self._measured[bind_key] = now

        def ask(specs: Sequence[SignalSpec]) -> list[tuple[str, Measurement]]:
            with transaction(engine, PROBE_LIMITS) as connection:
                has_table = self._has_parked_table[bind_key]
                measurements = measure(connection, specs, BACKLOG_COUNTED_TO, has_parked_table=has_table)
            return [(spec.name, measurement) for spec, measurement in zip(specs, measurements, strict=True)]

        specs = [spec for spec in self._specs[bind_key] if spec.name not in self._passed_over]
        for name, measurement in self._ask_together_or_alone(specs, ask) if specs else ():
            self._metrics.set_backlog(name, measurement.backlog, self._lag_seconds(name, measurement.head, now))
            noted = (measurement.waiting, measurement.parked)
            self._report_set_aside(name, *(noted if self._has_parked_table[bind_key] else self._shelves[name].count()))

    def _report_set_aside(self, name: str, waiting: int, parked_signals: int) -> None:
        self._metrics.set_set_aside(name, waiting, parked_signals)
        self._set_aside[name] = waiting + parked_signals
        self._progress[name].can_set_aside(waiting + parked_signals < self._shelves[name].most)
        # None waits either when the last was parked, and that is no flow.
        if not waiting and (not parked_signals or self._progress[name].flows_again()):
            self._announcer.fine(single_signals(name), "signals_flow_again", signal=name)

    def _ask_together_or_alone(
        self, specs: Sequence[SignalSpec], ask: Callable[[Sequence[SignalSpec]], list[T]]
    ) -> list[T]:
        try:
            return ask(specs)
        except DBAPIError as error:
            if not _concerns_one_table(error):
                raise
            # Perhaps it is the table of parked signals that is gone.
            self._looked[specs[0].bind_key] = float("-inf")
            if len(specs) == 1:
                self._pass_over(specs[0], specs[0].name, error)
                return []
            answers: list[T] = []
            for spec in specs:
                with self._hiding_no_other(spec):
                    answers += ask([spec])
            return answers

    @contextmanager
    def _hiding_no_other(self, spec: SignalSpec, thing: str | None = None) -> Iterator[None]:
        """A table that was dropped, altered or locked is told of; the others are looked at all the same.

        :param thing: what the trouble is with; the model when not given.
        """
        try:
            yield
        except DBAPIError as error:
            if not _concerns_one_table(error):
                raise
            self._pass_over(spec, thing or spec.name, error)

    def _pass_over(self, spec: SignalSpec, thing: str, error: DBAPIError) -> None:
        self._passed_over.add(spec.name)
        self._announcer.trouble(thing, "model_failing", error_text(error), signal=spec.name)

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


def _concerns_one_table(error: DBAPIError) -> bool:
    """Whether a table or a row is to blame, because it is dropped, altered, locked or no good, and not the database."""
    if isinstance(error, (ProgrammingError, DataError)):
        return True
    # psycopg2 and psycopg name it differently.
    code = getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None)
    return bool(code == LOCK_NOT_AVAILABLE)
