"""The fair queue of signal models, shared by the workers.

Invariant: no model with work starves. The model whose last turn is the longest ago comes first. A model that failed
waits for its backoff and delays no other. A paused model gets no turn, but the scheduler remembers that it has work.

Slow models delay no other either: they leave one worker to the models whose turns are not slow, and when slow turns
keep all workers busy all the same, a spare worker is added.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from .ring_rate import Steps
from .turns import SLOW_TURN_SECONDS, Entry, Turn

#: The largest number of spare workers while turns are slow or hang. Each has a connection to the database and one to
#: the broker. Larger: more models may hang at once without delaying others.
MOST_SPARE_WORKERS = 4


class Scheduler:
    """Hands models to workers, and lets workers without work wait.

    :param names: the names of all models.
    :param workers: the number of workers.
    :param clock: a monotonic clock, in seconds.
    :param most_spares: at most so many spare workers, because further ones would have no connection.
    """

    def __init__(
        self,
        names: Iterable[str],
        workers: int = 2,
        clock: Callable[[], float] = time.monotonic,
        most_spares: int = MOST_SPARE_WORKERS,
    ) -> None:
        self._entries = {name: Entry() for name in names}
        self._usual = workers
        self._workers = workers
        self._most = workers + min(most_spares, MOST_SPARE_WORKERS)
        self._turn = 0
        self._clock = clock
        self._changed = threading.Condition()
        self._closed = False
        self._active: set[str] = set()
        self._quiet_listeners: list[Callable[[], None]] = []
        #: When a turn ended in which signals were sent. Who has seen that the scheduler is idle sees the last one.
        self.last_sent_at = float("-inf")

    # For the poller and the notifiers

    def found(self, names: Collection[str], *, is_rung: bool = False) -> None:
        """Record that these models have something to send.

        :param is_rung: that is known from a NOTIFY, so that no poll need follow: the turn sees every key, or the model
            has another one soon.
        """
        with self._changed:
            for name in names:
                self._entries[name].found = True
                self._entries[name].is_rung |= is_rung
            # A worker that takes one of them wakes another one if there is more.
            self._changed.notify(len(names))

    def found_scheduled(self, name: str, seconds: float | None) -> None:
        """Record in how many seconds the next scheduled signal of a model is due: it has a turn then, without a poll.

        A turn that comes too early, because that signal was cancelled or the clock of the database was set back, finds
        nothing but the next time.

        :param seconds: None when none is known.
        """
        if seconds is None:
            return
        with self._changed:
            entry, now = self._entries[name], self._clock()
            due_at = now + max(0.0, seconds)
            if entry.due_at is None or due_at < entry.due_at:
                entry.due_at = due_at
                self._changed.notify()

    def begin_steps(self, names: Iterable[str]) -> None:
        """Let these models have turns in short steps, because their producers will send no NOTIFY."""
        with self._changed:
            for name in names:
                self._entries[name].steps = Steps()
                self._entries[name].found = True
            self._changed.notify()

    def end_steps(self, names: Iterable[str]) -> None:
        """The producers of these models will send NOTIFY again."""
        with self._changed:
            for name in names:
                self._entries[name].steps = None

    def quiet(self) -> set[str]:
        """The models in whose steps hardly anything is found any more."""
        with self._changed:
            return {name for name, entry in self._entries.items() if entry.steps is not None and entry.steps.is_quiet}

    def on_quiet(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when a model has become :meth:`quiet`."""
        self._quiet_listeners.append(listener)

    def set_paused(self, names: Iterable[str], *, paused: bool) -> None:
        """Record whether these models are paused. Bursts in flight end as usual."""
        with self._changed:
            for name in names:
                self._entries[name].paused = paused
            self._changed.notify_all()

    def set_away(self, names: Iterable[str], *, away: bool) -> None:
        """Record whether the database of these models is away: meanwhile no worker takes them."""
        with self._changed:
            changed = [entry for name in names if (entry := self._entries[name]).away != away]
            for entry in changed:
                entry.away = away
            if changed:
                self._changed.notify_all()

    def take_activity(self, names: Iterable[str]) -> set[str]:
        """Those of the models of which signals were sent since the last call for them."""
        with self._changed:
            active = self._active.intersection(names)
            self._active -= active
        return active

    def is_idle(self) -> bool:
        """Whether no model that is not paused has known work, and no worker has a turn."""
        with self._changed:
            return not any(
                entry.turns or (not entry.paused and (entry.found or entry.more)) for entry in self._entries.values()
            )

    def is_sending(self, within_seconds: float) -> bool:
        """Whether a worker is sending signals, with progress within the last so many seconds."""
        earliest = self._clock() - within_seconds
        return any(
            turn.is_sending and turn.progress_at >= earliest for turns in self.turns().values() for turn in turns
        )

    # For the workers

    def take(self, timeout_seconds: float, worker: str = "") -> str | None:
        """Wait for a model with work: of those that are due, the one whose last turn is the longest ago.

        The worker must :meth:`give_back` it. None after the timeout, or when the relay is stopping.
        """
        deadline = self._clock() + timeout_seconds
        with self._changed:
            while not self._closed:
                now = self._clock()
                name = self._next(now)
                if name is not None:
                    self._begin_turn(self._entries[name], worker, now)
                next_time = self.next_time()
                if name is not None and next_time is not None:
                    # A worker that waits knows only what was known when it began to wait.
                    self._changed.notify()
                if name is not None or now >= deadline:
                    return name
                until = deadline if next_time is None else min(deadline, next_time)
                self._changed.wait(max(0.0, until - now))
        return None

    def record_progress(self, name: str, worker: str = "") -> None:
        """Record progress of a worker's turn: it has locked signals, or the broker answered for some."""
        with self._changed:
            for turn in self._entries[name].turns:
                if turn.worker == worker:
                    turn.progress_at, turn.is_sending = self._clock(), True

    def is_rung(self, name: str, worker: str = "") -> bool:
        """Whether a worker's turn was asked for by a NOTIFY, so that another one follows unless it sees every key."""
        with self._changed:
            return any(turn.is_rung for turn in self._entries[name].turns if turn.worker == worker)

    def give_back(
        self,
        name: str,
        *,
        more: bool,
        wait_seconds: float = 0.0,
        sent: bool = False,
        again_seconds: float | None = None,
        worker: str = "",
    ) -> None:
        """End a turn.

        :param more: the burst was full; the next may follow at once.
        :param wait_seconds: how long no worker takes the model, because something failed. Its known work is kept.
        :param sent: signals were sent in this turn.
        :param again_seconds: a rung turn did not see every key; after so long one is to. None when none need follow.
        """
        with self._changed:
            entry, now = self._entries[name], self._clock()
            if sent:
                self._active.add(name)
                self.last_sent_at = now
            if wait_seconds > 0:
                entry.not_before = now + wait_seconds
                entry.found = True
            entry.more = more and wait_seconds <= 0
            is_quiet = entry.end_turn(worker, now, again_seconds, sent=sent)
            if self._next(now) is not None:
                self._changed.notify()
        if is_quiet:
            for listener in self._quiet_listeners:
                listener()

    # For the main thread

    def turns(self) -> dict[str, list[Turn]]:
        """The current turns, by model."""
        with self._changed:
            turns = {name: [replace(turn) for turn in entry.turns] for name, entry in self._entries.items()}
        return {name: some for name, some in turns.items() if some}

    def turns_without_progress(self, seconds: float) -> dict[str, list[Turn]]:
        """The turns that have made no progress for ``seconds``, by model."""
        latest = self._clock() - seconds
        late = {name: [turn for turn in turns if turn.progress_at <= latest] for name, turns in self.turns().items()}
        return {name: turns for name, turns in late.items() if turns}

    def add_spare(self) -> bool:
        """Count one more worker if a model waits while all are busy and one is slow; return whether it was added."""
        with self._changed:
            now, turns = self._clock(), self._turns()
            is_slow = len(turns) >= self._workers and any(turn.is_slow(now) for turn in turns)
            waits = any(entry.is_ready(now) and len(entry.turns) < self._usual for entry in self._entries.values())
            is_wanted = is_slow and waits and self._can_have_spare
            self._workers += is_wanted
            return is_wanted

    def remove_spare(self) -> bool:
        """Count one worker less if more than the usual number are not slow; return whether it was removed."""
        with self._changed:
            now = self._clock()
            is_spare = self._workers - sum(turn.is_slow(now) for turn in self._turns()) > self._usual
            self._workers -= is_spare
            if is_spare:
                # The worker that ends may have been the one that was woken.
                self._changed.notify_all()
            return is_spare

    def next_time(self) -> float | None:
        """When the first model with work may be taken; None when none may until something changes."""
        with self._changed:
            now, entries = self._clock(), self._entries.values()
            times = [entry.ready_at for entry in entries if entry.ready_at is not None]
            if any(self._may_be_taken(entry, now) for entry in entries):
                return min(times)
            # A slow model that leaves the last worker to others may take it once another turn is slow.
            times += [turn.began_at + SLOW_TURN_SECONDS for turn in self._turns()] if times else []
            return min((at for at in times if at > now), default=None)

    def close(self) -> None:
        """Hand out no more models, and wake all waiting workers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # The rules; the caller locks

    def _next(self, now: float) -> str | None:
        ready = [(entry.last_turn, name) for name, entry in self._entries.items() if self._may_be_taken(entry, now)]
        return min(ready)[1] if ready else None

    def _begin_turn(self, entry: Entry, worker: str, now: float) -> None:
        self._turn += 1
        entry.begin_turn(worker, self._turn, now)

    def _may_be_taken(self, entry: Entry, now: float) -> bool:
        return entry.is_ready(now) and (not entry.is_slow(now) or self._may_have_one_more(entry, now))

    def _may_have_one_more(self, entry: Entry, now: float) -> bool:
        """Whether a slow model may take one more worker."""
        if len(entry.turns) >= self._usual:
            return False
        turns = self._turns()
        leaves_one = self._workers - len(turns) > 1
        # A model that has to wait then gets a spare worker at once.
        leaves_spare = self._can_have_spare and any(turn.is_slow(now) for turn in turns)
        # Without spares left, slow models that do end their turns must not starve behind those that hang.
        shares_last = not entry.turns and not self._can_have_spare
        is_needed = not turns or all(one.is_slow(now) for one in self._entries.values())
        return leaves_one or leaves_spare or shares_last or is_needed

    def _turns(self) -> list[Turn]:
        return [turn for entry in self._entries.values() for turn in entry.turns]

    @property
    def _can_have_spare(self) -> bool:
        return self._workers < self._most
