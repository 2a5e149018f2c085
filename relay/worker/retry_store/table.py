"""The table ``signalbus_parked`` as the store of failed signals, shared by all replicas."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy.engine import Engine

from signalbus_core.lowlevel import (
    UNDELETED,
    BurstLimits,
    BurstResult,
    Choice,
    FailedSignal,
    Failure,
    Key,
    LeaveOut,
    SignalRef,
    SignalSpec,
    parked,
    retries,
    transaction,
)

from ..retry_policy import ITS_OWN_FAULT, Evidence, History, RetryPolicy, Step
from .memory import MemoryRetryStore
from .notes import Due
from .store import TAKEN_SECONDS, recovered_destinations, unanswered

#: The largest number of failed signals of a model in the table; then the model as a whole waits. Larger: more rows to
#: skip in each burst.
MOST_IN_TABLE = 50_000


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
        policy: RetryPolicy,
        limits: BurstLimits,
        memory: MemoryRetryStore | None = None,
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._policy = policy
        self._limits = limits
        self._memory = memory

    def choice(self, avoid: Sequence[SignalRef]) -> Choice:
        return Choice(LeaveOut.FAILED, exclude=tuple(avoid))

    def has_due(self) -> bool:
        # The poll query finds due signals, those of other replicas too.
        return False

    def take_due(self, limit: int, avoid: Sequence[SignalRef] = ()) -> Due:
        with transaction(self._engine, self._limits) as connection:
            due = Due.of(retries.due_signals(connection, self._spec, limit, avoid), limit)
            if due.signals:
                retries.postpone(connection, self._spec, due.signals, TAKEN_SECONDS)
        return due

    def due_keys(self, limit: int) -> list[Key]:
        with transaction(self._engine, self._limits) as connection:
            return [one.key for one in retries.due_signals(connection, self._spec, limit)]

    def retry(self, keys: tuple[SignalRef, ...]) -> Choice:
        return Choice(LeaveOut.FAILED, only=keys, forgets=True)

    def put(
        self, failed: Sequence[FailedSignal], evidence: Evidence = ITS_OWN_FAULT, *, is_retry: bool = False
    ) -> list[Key]:
        spec = self._spec
        if self._memory is not None and (sent := [one for one in failed if one.outcome.cause == UNDELETED]):
            self._memory.put(sent, evidence, is_retry=is_retry)
        with transaction(self._engine, self._limits) as connection:
            rows = [one.row for one in failed if one.row is not None]
            recorded = parked.failure_histories(connection, spec, [one.key for one in failed], rows)
            failures = [
                _failure(one, self._policy.after(_history(recorded[one.key], is_retry), one.outcome, evidence))
                for one in failed
                # The burst itself has recorded what it could not delete.
                if one.key in recorded
                and (is_retry or recorded[one.key].error_class != UNDELETED)
                # Written anew since it was sent, it is another signal.
                and one.version in (None, recorded[one.key].version)
            ]
            if failures:
                parked.record_failures(connection, spec, failures, recorded)
            if is_retry:
                for failure in {one.destination: one for one in failures if one.wait_seconds is not None}.values():
                    if failure.destination is not None:
                        retries.postpone_destination(
                            connection, spec, failure.destination, failure.attempts, failure.wait_seconds or 0.0
                        )
        return [one.key for one in failures if one.wait_seconds is None or not recorded[one.key].has_key]

    def tried(self, due: Due, result: BurstResult, recorded: Collection[Key] = ()) -> None:
        with transaction(self._engine, self._limits) as connection:
            if due.is_delete:
                kept = {one.key for one in result.undeleted}
                gone = [one for one in due.signals if one.key not in kept]
                retries.forget_records(connection, self._spec, gone)
                if self._memory is not None:
                    self._memory.forget([one.key for one in gone])
                return
            # The burst itself has removed the records of the signals that it sent.
            if untold := unanswered(due, result, recorded):
                retries.postpone(connection, self._spec, untold, 0.0)
            for destination in recovered_destinations(due, result):
                retries.release_destination(connection, self._spec, destination)

    def count(self) -> tuple[int, int]:
        with transaction(self._engine, self._limits) as connection:
            return parked.count_failed(connection, self._spec)

    def clean_up(self) -> None:
        with transaction(self._engine, self._limits) as connection:
            parked.forget_gone(connection, self._spec)
        if self._memory is not None:
            self._memory.clean_up()


def _failure(failed: FailedSignal, step: Step) -> Failure:
    outcome = failed.outcome
    is_of_row = outcome.cause != UNDELETED or failed.version is not None
    return Failure(
        failed.key, step.attempts, step.wait_seconds, outcome.cause, outcome.reason, outcome.destination, is_of_row
    )


def _history(recorded: parked.FailureHistory, is_retry: bool) -> History:
    if recorded.waited_seconds is None or not is_retry:
        return History()
    return History(recorded.attempts, recorded.error_class, recorded.failing_seconds, recorded.waited_seconds)
