"""Where signals that are set aside are noted: in the table ``signalbus_parked``, or in memory where that is not there.

Either way they stay in their own table, bursts leave them alone, and they are tried again when their time has come:
those whose outcome the broker tells together, those whose send method raised alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from sqlalchemy.engine import Engine

from signalbus_core import (
    BurstLimits,
    BurstResult,
    Choice,
    FailedSignal,
    Failure,
    Key,
    LeaveOut,
    SignalSpec,
    find_work,
    parked,
    transaction,
)

from .parking import ParkingRules, Step

#: So many signals of a model are set aside in the table; then the model as a whole waits. Larger: more rows to pass
#: over in each burst.
MOST_IN_TABLE = 50_000

#: The same in memory, where their keys are a parameter of each of the model's statements.
MOST_IN_MEMORY = 10_000

#: Failures of these classes are only told apart when the signal is sent alone.
ALONE = frozenset({"error", "closed"})


class Shelf(Protocol):
    """The signals of one model that are set aside."""

    def choice(self, avoid: Sequence[Key]) -> Choice:
        """What an ordinary burst takes: not these keys, and nothing that is set aside."""

    def has_due(self) -> bool:
        """Whether a signal's next try has come, as far as this process knows by itself."""

    def due(self, limit: int, avoid: Sequence[Key] = ()) -> tuple[Key, ...]:
        """Signals whose next try has come, and that may be tried in one burst; none of those to avoid."""

    def retry(self, keys: tuple[Key, ...]) -> Choice:
        """What a burst takes that tries such signals again."""

    def put(self, failed: Sequence[FailedSignal], *, counted: bool) -> list[Key]:
        """Note failed attempts; return the keys of the signals that are parked now.

        :param counted: whether the attempts count.
        """

    def retried(self, keys: Sequence[Key], result: BurstResult) -> None:
        """Signals were tried again. Those that did not fail were sent, are gone, or are locked by another worker."""

    def count(self) -> tuple[int, int]:
        """How many signals wait for their next try, and how many are parked."""

    def tidy(self) -> None:
        """Forget signals that are not in their table any more."""

    @property
    def most(self) -> int:
        """So many signals can be set aside."""


class TableShelf:
    """Notes in the table, shared by all replicas.

    :param engine: of the model's database.
    """

    most = MOST_IN_TABLE

    def __init__(self, spec: SignalSpec, engine: Engine, rules: ParkingRules, limits: BurstLimits) -> None:
        self._spec = spec
        self._engine = engine
        self._rules = rules
        self._limits = limits

    def choice(self, avoid: Sequence[Key]) -> Choice:
        return Choice(LeaveOut.SET_ASIDE, exclude=tuple(avoid))

    def has_due(self) -> bool:
        # The probe asks the database, which knows for all replicas.
        return False

    def due(self, limit: int, avoid: Sequence[Key] = ()) -> tuple[Key, ...]:
        with transaction(self._engine, self._limits) as connection:
            due = parked.due_signals(connection, self._spec, limit + len(avoid))
        return _for_one_burst(due, limit, avoid)

    def retry(self, keys: tuple[Key, ...]) -> Choice:
        return Choice(LeaveOut.SET_ASIDE, only=keys, forgets=True)

    def put(self, failed: Sequence[FailedSignal], *, counted: bool) -> list[Key]:
        with transaction(self._engine, self._limits) as connection:
            noted = parked.noted_so_far(connection, self._spec, [one.key for one in failed])
            failures = [
                _failure(
                    one,
                    self._rules.after(
                        noted[one.key].attempts, noted[one.key].error_class, one.outcome, counted=counted
                    ),
                )
                for one in failed
                if one.key in noted
            ]
            if failures:
                parked.set_aside(connection, self._spec, failures, noted)
        return [failure.key for failure in failures if failure.wait_seconds is None]

    def retried(self, keys: Sequence[Key], result: BurstResult) -> None:
        """The burst itself has removed the notes of what was sent."""

    def count(self) -> tuple[int, int]:
        with transaction(self._engine, self._limits) as connection:
            return parked.count_set_aside(connection, self._spec)

    def tidy(self) -> None:
        with transaction(self._engine, self._limits) as connection:
            parked.forget_gone(connection, self._spec)


@dataclass(frozen=True)
class _Note:
    attempts: int = 0
    next_try: float | None = None
    error_class: str = ""


class MemoryShelf:
    """Notes in this process alone, gone when it ends: every signal is tried again then.

    :param any_left: tells whether any of some signals is still in its table, locked or not.
    :param clock: a monotonic clock, in seconds.
    """

    most = MOST_IN_MEMORY

    def __init__(
        self,
        rules: ParkingRules,
        any_left: Callable[[Sequence[Key]], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._any_left = any_left
        self._clock = clock
        self._lock = threading.Lock()
        self._notes: dict[Key, _Note] = {}

    def choice(self, avoid: Sequence[Key]) -> Choice:
        with self._lock:
            return Choice(exclude=tuple({**self._notes, **dict.fromkeys(avoid)}))

    def has_due(self) -> bool:
        now = self._clock()
        with self._lock:
            return any(note.next_try is not None and note.next_try <= now for note in self._notes.values())

    def due(self, limit: int, avoid: Sequence[Key] = ()) -> tuple[Key, ...]:
        now = self._clock()
        with self._lock:
            due = [
                (note.next_try, number, key, note.error_class)
                for number, (key, note) in enumerate(self._notes.items())
                if note.next_try is not None and note.next_try <= now
            ]
        return _for_one_burst([(key, class_) for _, _, key, class_ in sorted(due)], limit, avoid)

    def retry(self, keys: tuple[Key, ...]) -> Choice:
        return Choice(only=keys)

    def put(self, failed: Sequence[FailedSignal], *, counted: bool) -> list[Key]:
        now = self._clock()
        parked_now: list[Key] = []
        with self._lock:
            for one in failed:
                before = self._notes.get(one.key, _Note())
                step = self._rules.after(before.attempts, before.error_class, one.outcome, counted=counted)
                next_try = None if step.wait_seconds is None else now + step.wait_seconds
                self._notes[one.key] = _Note(step.attempts, next_try, one.outcome.cause)
                if step.wait_seconds is None:
                    parked_now.append(one.key)
        return parked_now

    def retried(self, keys: Sequence[Key], result: BurstResult) -> None:
        rest = set(keys) - {one.key for one in result.failed}
        if result.selected < len(keys) and self._any_left(tuple(rest)):
            # Another worker is trying one of them; its attempts must not be forgotten.
            return
        with self._lock:
            for key in rest:
                self._notes.pop(key, None)

    def count(self) -> tuple[int, int]:
        with self._lock:
            waiting = sum(note.next_try is not None for note in self._notes.values())
            return waiting, len(self._notes) - waiting

    def tidy(self) -> None:
        """Nothing to do: what is gone is forgotten when it is tried again, and nothing here outlives the process."""


def _failure(failed: FailedSignal, step: Step) -> Failure:
    return Failure(failed.key, step.attempts, step.wait_seconds, failed.outcome.cause, failed.outcome.reason)


def _for_one_burst(due: Sequence[tuple[Key, str]], limit: int, avoid: Sequence[Key]) -> tuple[Key, ...]:
    """Of these signals, the first alone when it has to be alone, else all that need not be."""
    due = [one for one in due if one[0] not in avoid][:limit]
    if due and due[0][1] in ALONE:
        return (due[0][0],)
    return tuple(key for key, class_ in due if class_ not in ALONE)


class Shelves:
    """The shelf of each model: in the table where the model's database has it, else in memory.

    :param engines: the engine of each bind key that the models use.
    """

    def __init__(
        self,
        specs: Sequence[SignalSpec],
        engines: Mapping[str | None, Engine],
        rules: ParkingRules,
        limits: BurstLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._engines = engines
        self._limits = limits
        self._memory: dict[str, Shelf] = {
            name: MemoryShelf(rules, partial(self.any_left, name), clock) for name in self._specs
        }
        self._tables: dict[str, Shelf] = {
            spec.name: TableShelf(spec, engines[spec.bind_key], rules, limits) for spec in specs
        }
        self._with_table: set[str | None] = set()

    def __getitem__(self, name: str) -> Shelf:
        return (self._tables if self._specs[name].bind_key in self._with_table else self._memory)[name]

    def use_table(self, bind_key: str | None, is_there: bool) -> None:
        """Note whether a database has the table."""
        self._with_table = self._with_table | {bind_key} if is_there else self._with_table - {bind_key}

    def any_left(self, name: str, keys: Sequence[Key]) -> bool:
        """Whether any of these signals of a model is still in its table, locked or not."""
        spec = self._specs[name]
        with transaction(self._engines[spec.bind_key], self._limits) as connection:
            [work] = find_work(connection, [spec], {name: Choice(only=tuple(keys))})
        return work.pending
