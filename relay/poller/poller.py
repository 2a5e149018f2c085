"""One poll of a database: one statement for all its models, whose result goes to the scheduler.

Invariant: polling alone finds every signal; doorbells only shorten the wait. An idle relay polls each database about
once a second, whatever the number of models, and more often while signals flow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core.lowlevel import (
    BurstLimits,
    SignalSpec,
    Work,
    autocommit,
    count_inserted_rows,
    error_text,
    is_away,
    is_lost,
    transaction,
)

from ..application.databases import is_refused_login, nothing_listens, why_read_only
from ..runtime import Runtime
from ..scheduler import Scheduler
from ..servers.reconnect import LISTENING_WITHIN_SECONDS
from ..worker.model_state import ModelState
from ..worker.retry_store import RetryStores
from .backlog_meter import BacklogMeter
from .database import PolledDatabase
from .diagnosis.blocked_keys import read_blocked_keys
from .diagnosis.failures import read_failures
from .diagnosis.unreadable import Unreadable
from .diagnosis.vacuum_horizon import Horizon
from .joint_query import POLL_LIMITS, QUERIED_TOGETHER, JointQuery
from .maintenance import Maintenance
from .pauses import PausedModels
from .scan.queries import Measured, ModelQueries
from .scan.starts import ScanStarts

T = TypeVar("T")


class Poller:
    """Polls a database for pending signals, and tells the scheduler which models have some.

    :param states: the models of the database by name.
    :param limits: of each of its statements.
    """

    def __init__(
        self,
        database: PolledDatabase,
        states: Mapping[str, ModelState],
        retry_stores: RetryStores,
        paused: PausedModels,
        scheduler: Scheduler,
        runtime: Runtime,
        limits: BurstLimits = POLL_LIMITS,
    ) -> None:
        self.database = database
        self._bind_key, self._engine, self._names = database.bind_key, database.engine, database.names
        self._states = states
        self._retry_stores = retry_stores
        self._paused = paused
        self._scheduler = scheduler
        self._events = runtime.events
        self._clock = runtime.clock
        self._servers = runtime.servers
        self._limits = limits
        self._joint_query = JointQuery(runtime.events, Unreadable(lambda: transaction(self._engine, limits)).why)
        # Why the tables of models could not be read in the last poll, and whether each is alone in that.
        self._unread: dict[str, tuple[str, bool]] = {}
        self._meter = BacklogMeter(states, retry_stores, runtime)
        self._scan_starts = ScanStarts(states, runtime.clock)
        self._horizon = Horizon(database, runtime)
        self._maintenance = Maintenance(database, retry_stores, paused, self._joint_query, runtime)
        self._queries = ModelQueries(
            states,
            retry_stores,
            paused,
            self._scan_starts,
            self._joint_query,
            self._meter.starts,
            lambda: self._maintenance.has_parked_table,
        )
        #: Whether the database answered the last poll.
        self.database_is_up = False
        #: Whether the last poll covered the tables of all models, and whether it began at the first key of each.
        self.covered_everything = self.covered_every_key = False
        #: The models of which the last poll covered every row.
        self.covered: frozenset[str] = frozenset()
        #: The paused models for which the last poll found signals that a worker would lock.
        self.held: list[str] = []
        #: The models for which the last poll found signals that a worker can lock.
        self.found: list[str] = []
        # The models whose tables the last poll has read.
        self._read: frozenset[str] = frozenset()
        # Whether it had nothing to send in the last poll.
        self._is_quiet = False

    def run_once(self, cause: str = "poll", *, thorough: bool = False, to_cover: Collection[str] = frozenset()) -> bool:
        """Poll all models once.

        :param cause: why the poller polls.
        :param thorough: find every signal, also those below the low-water marks.
        :param to_cover: the models of which it is to find every signal in any case.
        :returns: whether there is anything to send. True also while the database cannot be polled.
        :raises TableError: a table cannot serve as an outbox.
        """
        self._joint_query.begin_poll()
        self._scan_starts.begin_poll(self._states if thorough else to_cover)
        self.held, self._queries.too_slow = [], []
        found: list[str] = []
        read: list[str] = []
        problem = self._reach(found, read)
        self.found, self.database_is_up, self._read = found, (is_up := problem is None), frozenset(read)
        self.covered_everything = is_up and not self._joint_query.has_passed_over and not self._maintenance.has_unusable
        self.covered = frozenset(filter(self._scan_starts.covered_every_key, read))
        self.covered_every_key = self.covered_everything and self._scan_starts.covered_every_key()
        unread = {name: (reason, True) for name, reason in self._joint_query.unread.items()}
        self._tell_unread(unread if problem is None else dict.fromkeys(self._names, (problem, False)))
        self._events.database_polled(self.database.thing, problem, found, cause)
        return not is_up or bool(found)

    def _reach(self, found: list[str], read: list[str]) -> str | None:
        """Poll the database, when it is its time; return why it cannot be polled."""
        bind_key, names = self._bind_key, self._names
        was_away = self._servers.problem(bind_key)
        if was_away is not None and not self._servers.claim(bind_key):
            return was_away
        try:
            if was_away is not None and (problem := self._why_unusable()) is not None:
                self._servers.failed(bind_key, problem)
                self._scheduler.set_away(names, away=True)
                return problem
            self._maintenance.verify()
            self._maintenance.find_tables()
            read += self._poll(found)
            self._maintenance.clean_up(self._meter.has_failed)
            self._horizon.run_once(is_active=not self._is_quiet)
        except SQLAlchemyError as error:
            problem = error_text(error)
            self._servers.failed(bind_key, problem, was_refused=is_refused_login(error) or not is_away(error))
            # A database that refuses a statement, or is merely slow, may answer the workers.
            self._scheduler.set_away(names, away=is_lost(error))
            return problem
        except BaseException as error:
            # Whatever it is, this try has ended, and nothing is known to be well.
            self._servers.failed(bind_key, error_text(error), was_refused=True)
            raise
        if was_away is not None:
            self._servers.reached(bind_key)
        self._scheduler.set_away(names, away=False)
        return None

    def _why_unusable(self) -> str | None:
        return nothing_listens(self._engine, LISTENING_WITHIN_SECONDS) or why_read_only(self._engine, self._limits)

    @property
    def too_slow(self) -> Collection[str]:
        """The models whose scans from the first key timed out in the last poll."""
        return self._scan_starts.timed_out

    @property
    def retry_in_seconds(self) -> float | None:
        """How long until the database may be polled again while it is away; None when it is not."""
        is_away = self._servers.problem(self._bind_key) is not None
        return self._servers.wait_seconds(self._bind_key) if is_away else None

    def _tell_unread(self, unread: dict[str, tuple[str, bool]]) -> None:
        for name, (reason, is_alone) in unread.items():
            self._events.model_unread(name, reason, is_alone=is_alone)
        for name in self._unread.keys() - unread.keys():
            self._events.model_unread(name, None, is_alone=True)
        self._unread = unread

    def hand_on_rung(self, names: Collection[str]) -> Collection[str]:
        """Hand models whose producers have sent NOTIFY to the workers, without a poll; return those.

        Without those whose tables the last poll could not read: the next one finds out whether workers may have them.
        """
        handed_on = self._read.intersection(names)
        self._scheduler.found(handed_on, is_rung=True)
        return handed_on

    def _poll(self, found: list[str]) -> list[str]:
        """Hand models with work to the workers, and measure when it is time; return the models that could be read.

        While there is nothing to send, one statement does both. Else measuring comes second: a backlog that is slow to
        count must not delay its signals.
        """
        fit = self._maintenance.usable_models()
        blind = [spec for spec in fit if self._scan_starts.is_left_to_workers(spec.name)]
        specs = [spec for spec in fit if spec not in blind]
        if is_time := self._meter.begin():
            self._joint_query.begin_measuring()
        at_once = is_time and self._is_quiet
        measured: list[Measured] = []
        names = self._hand_on_blindly(blind)
        read: list[str] = []
        for first in range(0, len(specs), QUERIED_TOGETHER):
            some = self._maintenance.with_checked_keys(specs[first : first + QUERIED_TOGETHER])
            if at_once:
                both = self._query(some, self._queries.find_and_measure)
                measured += [(work.spec.name, measurement) for work, measurement in both]
                work = [one for one, _ in both]
            else:
                work = self._query(some, self._queries.find)
            # At once: where there are a thousand models, the first are sent while the others are polled.
            names += self._hand_on(some, work)
            read += [one.spec.name for one in work]
        found += names
        self._is_quiet = not names
        if is_time and not at_once:
            specs = [spec for spec in specs if not self._joint_query.passed_over(spec)]
            measured = self._query(specs, self._queries.measure)
        if is_time:
            self._report(measured)
        return read

    def _report(self, measured: Sequence[Measured]) -> None:
        """Report the measurements, with what is read of failed signals: the time of that counts as measuring."""
        connecting, beginning = (partial(how, self._engine, self._limits) for how in (autocommit, transaction))
        waiting = [self._states[name].spec for name, one in measured if one.waiting]
        blocked = [self._states[name].spec for name, one in measured if one.blocked]
        failures = read_failures(self._joint_query, connecting, waiting)
        keys = read_blocked_keys(self._joint_query, beginning, blocked)
        self._meter.report(measured, failures, keys, has_table=self._maintenance.has_parked_table)

    def _hand_on_blindly(self, specs: Sequence[SignalSpec]) -> list[str]:
        """Hand models whose polls time out to the workers when rows were inserted; return their names."""
        if not specs:
            return []
        for spec in specs:
            self._joint_query.pass_over(spec)
        with autocommit(self._engine, self._limits) as connection:
            inserted = zip(specs, count_inserted_rows(connection, specs), strict=True)
        names = [spec.name for spec, rows in inserted if self._scan_starts.take_growth(spec.name, rows)]
        names = [name for name in names if name not in self._paused]
        self._scheduler.found(names)
        return names

    def _hand_on(self, specs: Sequence[SignalSpec], work: Sequence[Work]) -> list[str]:
        """Hand the models with work to the workers; return their names."""
        # First, so that no worker takes a model that this poll found paused.
        self._paused.record_pauses(work)
        names = [one.spec.name for one in work if self._has_work(one)]
        names += [spec.name for spec in specs if spec.name in self._queries.too_slow and spec.name not in self._paused]
        if names:
            self._scheduler.found(names)
        for one in work:
            self._scheduler.found_scheduled(one.spec.name, one.next_seconds)
        return names

    def _query(
        self, specs: Sequence[SignalSpec], read: Callable[[Connection, Sequence[SignalSpec]], list[T]]
    ) -> list[T]:
        def query(some: Sequence[SignalSpec]) -> list[T]:
            with autocommit(self._engine, self._limits, in_order=True) as connection:
                return read(connection, some)

        if not specs:
            return []
        find_again = self._maintenance.find_tables_again
        is_scan, measures = read != self._queries.measure, read != self._queries.find
        return self._joint_query.together_or_alone(specs, query, find_again, is_scan=is_scan, measures=measures)

    def _has_work(self, work: Work) -> bool:
        name = work.spec.name
        state = self._states[name]
        due = work.due or self._retry_stores[name].has_due()
        if name in self._paused:
            if due or work.pending or state.avoided():
                self.held.append(name)
            return False
        if due:
            state.mark_retry_due()
        if due or work.pending or state.has_due_suspect(self._clock()):
            return True
        if self._scan_starts.covered_every_key(name) and state.mark_empty():
            # Another relay may have sent the signals that this one could not.
            self._events.resolved(name, "model_recovered", name)
        return False

    def has_suspects(self) -> bool:
        """Whether signals are left out of bursts because they may have caused an outage."""
        return any(state.avoided() for name, state in self._states.items() if name not in self._paused)

    def count_failed(self) -> int:
        """How many signals of all models are waiting or parked."""
        return sum(sum(self._retry_stores[name].count()) for name in self._states)
