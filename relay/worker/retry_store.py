"""The store of failed signals: the table ``signalbus_parked``, or memory where there is no such table.

Invariant: a failed signal stays in its own table, ordinary bursts leave it out, and it is tried again when it is due.
Signals that the broker answered for are tried together, those whose send method raised are tried alone, and of those
that one destination refused, one is tried for all. Of signals that were sent, only the delete is tried.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from sqlalchemy.engine import Engine

from signalbus_core import Outcome, OutcomeKind
from signalbus_core.lowlevel import (
    UNDELETED,
    BurstLimits,
    BurstResult,
    Choice,
    DueSignal,
    FailedSignal,
    Failure,
    Key,
    LeaveOut,
    Mark,
    SignalSpec,
    parked,
    retries,
    transaction,
)

from .notes import Due, Note, Notes
from .retry_policy import ITS_OWN_FAULT, Evidence, History, RetryPolicy, Step

#: The largest number of failed signals of a model in the table; then the model as a whole waits. Larger: more rows to
#: skip in each burst.
MOST_IN_TABLE = 50_000

#: The same in memory. Larger: more keys in a parameter of each of the model's statements.
MOST_IN_MEMORY = 10_000

#: A relay that takes signals for a retry postpones them by so long for all others. Shorter: a signal whose row another
#: session has locked is tried more often; longer: one whose relay died waits longer.
TAKEN_SECONDS = 5.0


class RetryStore(Protocol):
    """The failed signals of one model."""

    def choice(self, avoid: Sequence[Mark]) -> Choice:
        """What an ordinary burst selects: neither these nor failed signals."""

    def has_due(self) -> bool:
        """Whether a signal is due, as far as this process knows without a query."""

    def take_due(self, limit: int, avoid: Sequence[Mark] = ()) -> Due:
        """Due signals that may be tried in one burst, without those to avoid.

        They are postponed for all workers, so that one that cannot be locked does not delay the other due signals.
        """

    def due_keys(self, limit: int) -> list[Key]:
        """Due signals, for diagnosis; they are not taken."""

    def retry(self, keys: tuple[Mark, ...]) -> Choice:
        """What a burst selects that tries these signals again."""

    def put(
        self, failed: Sequence[FailedSignal], evidence: Evidence = ITS_OWN_FAULT, *, is_retry: bool = False
    ) -> list[Key]:
        """Record failed attempts; return the keys of the signals that are parked now.

        :param is_retry: the signals were in the store. Else a record under the same key is about an earlier row.
        """

    def tried(self, due: Due, result: BurstResult, noted: Collection[Key] = ()) -> None:
        """Record the result of a retry, except for signals that were :meth:`put` just now: ``noted``."""

    def count(self) -> tuple[int, int]:
        """How many signals are waiting, and how many are parked."""

    def tidy(self) -> None:
        """Remove signals whose row is gone or has changed."""

    @property
    def most(self) -> int:
        """The largest number of signals in the store."""


class TableRetryStore:
    """The table ``signalbus_parked``, shared by all replicas.

    :param engine: of the model's database.
    :param memory: knows too what this process has sent and cannot delete: it must not be sent again when somebody drops
      the table.
    """

    most = MOST_IN_TABLE

    def __init__(
        self,
        spec: SignalSpec,
        engine: Engine,
        rules: RetryPolicy,
        limits: BurstLimits,
        memory: MemoryRetryStore | None = None,
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._rules = rules
        self._limits = limits
        self._memory = memory

    def choice(self, avoid: Sequence[Mark]) -> Choice:
        return Choice(LeaveOut.FAILED, exclude=tuple(avoid))

    def has_due(self) -> bool:
        # The poll query finds due signals, those of other replicas too.
        return False

    def take_due(self, limit: int, avoid: Sequence[Mark] = ()) -> Due:
        with transaction(self._engine, self._limits) as connection:
            due = Due.of(retries.due_signals(connection, self._spec, limit, avoid), limit)
            if due.signals:
                retries.postpone(connection, self._spec, due.signals, TAKEN_SECONDS)
        return due

    def due_keys(self, limit: int) -> list[Key]:
        with transaction(self._engine, self._limits) as connection:
            return [one.key for one in retries.due_signals(connection, self._spec, limit)]

    def retry(self, keys: tuple[Mark, ...]) -> Choice:
        return Choice(LeaveOut.FAILED, only=keys, forgets=True)

    def put(
        self, failed: Sequence[FailedSignal], evidence: Evidence = ITS_OWN_FAULT, *, is_retry: bool = False
    ) -> list[Key]:
        spec = self._spec
        if self._memory is not None and (sent := [one for one in failed if one.outcome.cause == UNDELETED]):
            self._memory.put(sent, evidence, is_retry=is_retry)
        with transaction(self._engine, self._limits) as connection:
            rows = [one.row for one in failed if one.row is not None]
            noted = parked.failure_histories(connection, spec, [one.key for one in failed], rows)
            failures = [
                _failure(one, self._rules.after(_history(noted[one.key], is_retry), one.outcome, evidence))
                for one in failed
                # The burst itself has noted what it could not delete.
                if one.key in noted
                and (is_retry or noted[one.key].error_class != UNDELETED)
                # Written anew since it was sent, it is another signal.
                and one.version in (None, noted[one.key].version)
            ]
            if failures:
                parked.record_failures(connection, spec, failures, noted)
            if is_retry:
                for failure in {one.destination: one for one in failures if one.wait_seconds is not None}.values():
                    if failure.destination is not None:
                        retries.postpone_destination(
                            connection, spec, failure.destination, failure.attempts, failure.wait_seconds or 0.0
                        )
        return [one.key for one in failures if one.wait_seconds is None or not noted[one.key].has_key]

    def tried(self, due: Due, result: BurstResult, noted: Collection[Key] = ()) -> None:
        with transaction(self._engine, self._limits) as connection:
            if due.is_delete:
                kept = {one.key for one in result.undeleted}
                gone = [one for one in due.signals if one.key not in kept]
                retries.forget_records(connection, self._spec, gone)
                if self._memory is not None:
                    self._memory.forget([one.key for one in gone])
                return
            # The burst itself has removed the records of the signals that it sent.
            if unanswered := _unanswered(due, result, noted):
                retries.postpone(connection, self._spec, unanswered, 0.0)
            for destination in _arrived_at(due, result):
                retries.release_destination(connection, self._spec, destination)

    def count(self) -> tuple[int, int]:
        with transaction(self._engine, self._limits) as connection:
            return parked.count_failed(connection, self._spec)

    def tidy(self) -> None:
        with transaction(self._engine, self._limits) as connection:
            parked.forget_gone(connection, self._spec)
        if self._memory is not None:
            self._memory.tidy()


class MemoryRetryStore:
    """The memory of this process, lost when it ends: every signal is tried again then.

    :param versions: returns the row versions of those of the given signals that are in their table, locked or not.
    :param clock: a monotonic clock, in seconds.
    """

    most = MOST_IN_MEMORY

    def __init__(
        self,
        rules: RetryPolicy,
        versions: Callable[[Sequence[Mark]], Mapping[Mark, str | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._versions = versions
        self._clock = clock
        self._lock = threading.Lock()
        self._notes = Notes()

    def choice(self, avoid: Sequence[Mark]) -> Choice:
        with self._lock:
            return Choice(exclude=tuple(dict.fromkeys([*self._notes.keys(), *avoid])))

    def has_due(self) -> bool:
        with self._lock:
            return bool(self._notes.due(self._clock()))

    def take_due(self, limit: int, avoid: Sequence[Mark] = ()) -> Due:
        now = self._clock()
        with self._lock:
            due = [_due(note.key or (), note) for mark, note in self._notes.due(now) if mark not in avoid]
            taken = Due.of(due, limit)
            self._notes.postpone(taken.keys, now + TAKEN_SECONDS)
        return taken

    def due_keys(self, limit: int) -> list[Key]:
        with self._lock:
            return [note.key or () for _, note in self._notes.due(self._clock())][:limit]

    def retry(self, keys: tuple[Mark, ...]) -> Choice:
        return Choice(only=keys)

    def put(
        self, failed: Sequence[FailedSignal], evidence: Evidence = ITS_OWN_FAULT, *, is_retry: bool = False
    ) -> list[Key]:
        versions = self._versions([mark for one in failed for mark in (one.key, one.row) if mark is not None])
        now = self._clock()
        parked_now: list[Key] = []
        with self._lock:
            for one in failed:
                mark = _mark(one, versions)
                before = self._notes.get(mark) if is_retry else None
                history = History() if before is None else _history_of(before, now)
                step = self._rules.after(history, one.outcome, evidence)
                # A signal that its key does not find cannot be tried again.
                is_parked = step.wait_seconds is None or isinstance(mark, str)
                next_try = None if is_parked else now + (step.wait_seconds or 0.0)
                first_failed = now if before is None else before.first_failed
                version, destination = one.version or versions.get(mark), one.outcome.destination
                note = Note(next_try, one.outcome.cause, step.attempts, first_failed, now, version, destination)
                self._notes.write(mark, replace(note, key=one.key))
                if next_try is None:
                    parked_now.append(one.key)
                elif is_retry and destination is not None:
                    self._notes.postpone([key for key, _ in self._notes.of_destination(destination)], next_try)
        return parked_now

    def tried(self, due: Due, result: BurstResult, noted: Collection[Key] = ()) -> None:
        failed = {one.key for one in (*result.failed, *result.undeleted)} | set(noted)
        left = self._versions(due.keys) if result.selected < len(due.keys) else {}
        now = self._clock()
        with self._lock:
            unanswered = {one.key for one in _unanswered(due, result, noted)}
            for signal in due.signals:
                key, note = signal.key, self._notes.get(signal.key)
                if key in unanswered and note is not None:
                    self._notes.write(key, replace(note, next_try=now))
                elif key not in failed and (key in result.keys or key not in left):
                    # Sent, or gone. A signal that was not selected but is still there may be in another worker's burst.
                    self._notes.forget([key])
            for destination in _arrived_at(due, result):
                for mark, note in self._notes.of_destination(destination):
                    self._notes.write(mark, replace(note, next_try=now, destination=None))

    def sent(self) -> list[FailedSignal]:
        """Signals that were sent, and are still in their table because they cannot be deleted."""
        kept = Outcome(OutcomeKind.ACKED, "noted before there was the table signalbus_parked", cause=UNDELETED)
        with self._lock:
            return [
                FailedSignal(note.key or (), kept, note.version, mark if isinstance(mark, str) else None)
                for mark, note in self._notes.items()
                if note.cause == UNDELETED
            ]

    def forget(self, keys: Sequence[Key]) -> None:
        """These signals are gone."""
        with self._lock:
            self._notes.forget(keys)

    def count(self) -> tuple[int, int]:
        with self._lock:
            parked_signals = sum(note.next_try is None for _, note in self._notes.items())
            return len(self._notes) - parked_signals, parked_signals

    def tidy(self) -> None:
        with self._lock:
            noted = self._notes.items()
        versions = self._versions([key for key, _ in noted]) if noted else {}
        with self._lock:
            for key, note in noted:
                is_same = key in versions and (note.version is None or versions[key] == note.version)
                if not is_same and self._notes.get(key) is note:
                    self._notes.forget([key])


def _mark(failed: FailedSignal, versions: Mapping[Mark, str | None]) -> Mark:
    """The key of a signal or, where that finds another row or none, the id of its row.

    :param versions: of the rows that are there, by key and by id. A row that was written anew since has another id.
    """
    if failed.row is None or failed.row not in versions or versions[failed.row] == versions.get(failed.key):
        return failed.key
    return failed.row


def _failure(failed: FailedSignal, step: Step) -> Failure:
    outcome = failed.outcome
    is_of_row = outcome.cause != UNDELETED or failed.version is not None
    return Failure(
        failed.key, step.attempts, step.wait_seconds, outcome.cause, outcome.reason, outcome.destination, is_of_row
    )


def _history(noted: parked.FailureHistory, is_retry: bool) -> History:
    if noted.waited_seconds is None or not is_retry:
        return History()
    return History(noted.attempts, noted.error_class, noted.failing_seconds, noted.waited_seconds)


def _history_of(note: Note, now: float) -> History:
    return History(note.attempts, note.cause, now - note.first_failed, now - note.last_failed)


def _due(key: Key, note: Note) -> DueSignal:
    return DueSignal(key, "", note.cause, note.destination, note.version)


def _unanswered(due: Due, result: BurstResult, noted: Collection[Key]) -> list[DueSignal]:
    """Signals that were tried without a known outcome: they are due again at once."""
    if not (result.has_unmentioned or result.is_outage):
        return []
    return [one for one in due.signals if one.key in result.keys and one.key not in noted]


def _arrived_at(due: Due, result: BurstResult) -> list[str]:
    """Destinations that accepted the one signal that was tried for all of theirs."""
    if result.has_unmentioned or result.is_outage:
        return []
    failed = {one.key for one in result.failed}
    arrived = [one for one in due.signals if one.key in result.keys and one.key not in failed]
    return [one.destination for one in arrived if one.destination is not None]


class RetryStores:
    """The retry store of each model: the table where the model's database has it, else memory.

    :param engines: the engine of each bind key that the models use.
    """

    def __init__(
        self,
        specs: Sequence[SignalSpec],
        engines: Mapping[str | None, Engine],
        rules: RetryPolicy,
        limits: BurstLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._engines = engines
        self._limits = limits
        self._memory = {name: MemoryRetryStore(rules, partial(self.versions, name), clock) for name in self._specs}
        self._tables: dict[str, RetryStore] = {
            spec.name: TableRetryStore(spec, engines[spec.bind_key], rules, limits, self._memory[spec.name])
            for spec in specs
        }
        self._with_table: set[str | None] = set()

    def __getitem__(self, name: str) -> RetryStore:
        return (self._tables if self._specs[name].bind_key in self._with_table else self._memory)[name]

    def use_table(self, bind_key: str | None, is_there: bool) -> None:
        """Note whether a database has the table.

        What this process remembers of signals that were sent is noted there once it has: they must not be sent again.

        :raises sqlalchemy.exc.SQLAlchemyError: that cannot be noted.
        """
        if is_there and bind_key not in self._with_table:
            for name, retry_store in self._memory.items():
                if self._specs[name].bind_key == bind_key and (sent := retry_store.sent()):
                    self._tables[name].put(sent)
        self._with_table = self._with_table | {bind_key} if is_there else self._with_table - {bind_key}

    def engine(self, name: str) -> Engine:
        """The engine of a model's database."""
        return self._engines[self._specs[name].bind_key]

    def versions(self, name: str, signals: Sequence[Mark]) -> dict[Mark, str]:
        """The row versions of those of these signals that are in the model's table, locked or not."""
        with transaction(self.engine(name), self._limits) as connection:
            return parked.row_versions(connection, self._specs[name], signals)
