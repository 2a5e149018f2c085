"""The memory of this process as the store of failed signals, where a database has no table ``signalbus_parked``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from signalbus_core import Outcome, OutcomeKind
from signalbus_core.lowlevel import UNDELETED, BurstResult, Choice, DueSignal, FailedSignal, Key, SignalRef

from ..retry_policy import ITS_OWN_FAULT, Evidence, History, RetryPolicy
from .notes import Due, Note, Notes
from .store import TAKEN_SECONDS, recovered_destinations, unanswered

#: The same in memory. Larger: more keys in a parameter of each of the model's statements.
MOST_IN_MEMORY = 10_000


class MemoryRetryStore:
    """The memory of this process, lost when it ends: every signal is tried again then.

    :param versions: returns the row versions of those of the given signals that are in their table, locked or not.
    :param clock: a monotonic clock, in seconds.
    :param skips_parked: a parked signal holds back none of the others of its key.
    """

    most = MOST_IN_MEMORY

    def __init__(
        self,
        policy: RetryPolicy,
        versions: Callable[[Sequence[SignalRef]], Mapping[SignalRef, str | None]],
        clock: Callable[[], float] = time.monotonic,
        *,
        skips_parked: bool = False,
    ) -> None:
        self._policy = policy
        self._versions = versions
        self._clock = clock
        self._skips_parked = skips_parked
        self._lock = threading.Lock()
        self._notes = Notes()

    def choice(self, avoid: Sequence[SignalRef]) -> Choice:
        with self._lock:
            excluded = tuple(dict.fromkeys([*self._notes.keys(), *avoid]))
            return Choice(exclude=excluded, passed_over=self._passed_over())

    def _passed_over(self) -> tuple[SignalRef, ...]:
        """The failed signals that hold back no others of their key: they were sent, or are parked and skipped."""
        return tuple(
            ref
            for ref, note in self._notes.items()
            if note.cause == UNDELETED or (self._skips_parked and note.next_try is None)
        )

    def has_due(self) -> bool:
        with self._lock:
            return bool(self._notes.due(self._clock()))

    def take_due(self, limit: int, avoid: Sequence[SignalRef] = ()) -> Due:
        now = self._clock()
        with self._lock:
            due = [_due(note.key or (), note) for ref, note in self._notes.due(now) if ref not in avoid]
            taken = Due.of(due, limit)
            self._notes.postpone(taken.keys, now + TAKEN_SECONDS)
        return taken

    def due_keys(self, limit: int) -> list[Key]:
        with self._lock:
            return [note.key or () for _, note in self._notes.due(self._clock())][:limit]

    def retry(self, keys: tuple[SignalRef, ...]) -> Choice:
        with self._lock:
            return Choice(only=keys, passed_over=self._passed_over())

    def put(
        self, failed: Sequence[FailedSignal], evidence: Evidence = ITS_OWN_FAULT, *, is_retry: bool = False
    ) -> list[Key]:
        versions = self._versions([ref for one in failed for ref in (one.key, one.row) if ref is not None])
        now = self._clock()
        parked_now: list[Key] = []
        with self._lock:
            for one in failed:
                ref = _ref_of(one, versions)
                before = self._notes.get(ref) if is_retry else None
                history = History() if before is None else _history_of(before, now)
                step = self._policy.after(history, one.outcome, evidence)
                # A signal that its key does not find cannot be tried again.
                is_parked = step.wait_seconds is None or isinstance(ref, str)
                next_try = None if is_parked else now + (step.wait_seconds or 0.0)
                first_failed = now if before is None else before.first_failed
                version, destination = one.version or versions.get(ref), one.outcome.destination
                note = Note(next_try, one.outcome.cause, step.attempts, first_failed, now, version, destination)
                self._notes.write(ref, replace(note, key=one.key))
                if next_try is None:
                    parked_now.append(one.key)
                elif is_retry and destination is not None:
                    self._notes.postpone([key for key, _ in self._notes.of_destination(destination)], next_try)
        return parked_now

    def tried(self, due: Due, result: BurstResult, recorded: Collection[Key] = ()) -> None:
        failed = {one.key for one in (*result.failed, *result.undeleted)} | set(recorded)
        left = self._versions(due.keys) if result.selected < len(due.keys) else {}
        now = self._clock()
        with self._lock:
            untold = {one.key for one in unanswered(due, result, recorded)}
            for signal in due.signals:
                key, note = signal.key, self._notes.get(signal.key)
                if key in untold and note is not None:
                    self._notes.write(key, replace(note, next_try=now))
                elif key not in failed and (key in result.keys or key not in left):
                    # Sent, or gone. A signal that was not selected but is still there may be in another worker's burst.
                    self._notes.forget([key])
            for destination in recovered_destinations(due, result):
                for ref, note in self._notes.of_destination(destination):
                    self._notes.write(ref, replace(note, next_try=now, destination=None))

    def sent(self) -> list[FailedSignal]:
        """Signals that were sent, and are still in their table because they cannot be deleted."""
        kept = Outcome(OutcomeKind.ACKED, "noted before there was the table signalbus_parked", cause=UNDELETED)
        with self._lock:
            return [
                FailedSignal(note.key or (), kept, note.version, ref if isinstance(ref, str) else None)
                for ref, note in self._notes.items()
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

    def clean_up(self) -> None:
        with self._lock:
            recorded = self._notes.items()
        versions = self._versions([key for key, _ in recorded]) if recorded else {}
        with self._lock:
            for key, note in recorded:
                is_same = key in versions and (note.version is None or versions[key] == note.version)
                if not is_same and self._notes.get(key) is note:
                    self._notes.forget([key])


def _ref_of(failed: FailedSignal, versions: Mapping[SignalRef, str | None]) -> SignalRef:
    """The key of a signal or, where that finds another row or none, the id of its row.

    :param versions: of the rows that are there, by key and by id. A row that was written anew since has another id.
    """
    if failed.row is None or failed.row not in versions or versions[failed.row] == versions.get(failed.key):
        return failed.key
    return failed.row


def _history_of(note: Note, now: float) -> History:
    return History(note.attempts, note.cause, now - note.first_failed, now - note.last_failed)


def _due(key: Key, note: Note) -> DueSignal:
    return DueSignal(key, "", note.cause, note.destination, note.version)
