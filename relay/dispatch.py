"""The schedule, shared by the threads of the relay: workers wait here for a model, the probe brings them work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from .schedule import Schedule, Turn


class Dispatcher:
    """Hands models to workers, and lets workers without work sleep.

    :param clock: a monotonic clock, in seconds.
    :param on_sent: called when signals of a model were sent, and nothing more of it is known.
    """

    def __init__(
        self,
        schedule: Schedule,
        clock: Callable[[], float] = time.monotonic,
        on_sent: Callable[[], None] = lambda: None,
    ) -> None:
        self._schedule = schedule
        self._clock = clock
        self._on_sent = on_sent
        self._changed = threading.Condition()
        self._closed = False
        self._active = False
        #: The models of which signals were sent since nothing more was known of them.
        self._sent: set[str] = set()

    def found(self, names: Iterable[str]) -> None:
        with self._changed:
            self._schedule.found(names)
            self._changed.notify_all()

    def set_paused(self, names: Collection[str]) -> None:
        """Hand out none of these models, and any other again. Bursts in flight end as they would."""
        with self._changed:
            self._schedule.set_paused(names)
            self._changed.notify_all()

    def take(self, timeout_seconds: float, worker: str = "") -> str | None:
        """Wait for a model with work; None when there was none in time, or when the relay is stopping."""
        deadline = self._clock() + timeout_seconds
        with self._changed:
            while not self._closed:
                now = self._clock()
                name = self._schedule.take(now, worker)
                if name is not None or now >= deadline:
                    return name
                next_time = self._schedule.next_time(now)
                until = deadline if next_time is None else min(deadline, next_time)
                self._changed.wait(max(0.0, until - now))
        return None

    def moved(self, name: str, worker: str = "") -> None:
        """Note that a worker's turn makes progress: it has locked signals, or some were answered for."""
        with self._changed:
            self._schedule.moved(name, self._clock(), worker)

    def give_back(
        self, name: str, *, more: bool, wait_seconds: float = 0.0, sent: bool = False, worker: str = ""
    ) -> None:
        """End a turn.

        :param more: there is more to send at once.
        :param wait_seconds: how long the model is to be left alone, because something failed.
        :param sent: signals were sent in this turn.
        """
        with self._changed:
            if sent:
                self._active = True
                self._sent.add(name)
            # After full bursts the last one may find nothing: it ends what they began all the same.
            has_sent_all = name in self._sent and not more
            if has_sent_all:
                self._sent.discard(name)
            if wait_seconds > 0:
                self._schedule.hold(name, self._clock() + wait_seconds)
            self._schedule.give_back(name, more=more and wait_seconds <= 0, now=self._clock(), worker=worker)
            self._changed.notify_all()
        if has_sent_all:
            self._on_sent()

    def was_active(self) -> bool:
        """Whether signals were sent since the last time that this was asked."""
        with self._changed:
            active, self._active = self._active, False
        return active

    def is_sending(self, within_seconds: float) -> bool:
        """Whether a worker sends signals, and has made progress for the last time no longer ago than that."""
        earliest = self._clock() - within_seconds
        return any(turn.is_sending and turn.moved_at >= earliest for turns in self.turns().values() for turn in turns)

    def unmoved(self, seconds: float) -> dict[str, dict[str, float]]:
        """The models whose turns have made no progress for so long: for how long, by worker."""
        now = self._clock()
        late = {
            name: {turn.worker: now - turn.moved_at for turn in turns if now - turn.moved_at >= seconds}
            for name, turns in self.turns().items()
        }
        return {name: workers for name, workers in late.items() if workers}

    def turns(self) -> dict[str, list[Turn]]:
        """What workers are busy with, by model."""
        with self._changed:
            return {name: [replace(turn) for turn in turns] for name, turns in self._schedule.turns().items()}

    def add_spare(self) -> bool:
        """Expect one more worker, if one is wanted; return whether it is so."""
        with self._changed:
            return self._schedule.add_spare(self._clock())

    def remove_spare(self) -> bool:
        """Expect one worker less, if one is not wanted any more; return whether it is so."""
        with self._changed:
            return self._schedule.remove_spare(self._clock())

    def is_idle(self) -> bool:
        with self._changed:
            return self._schedule.is_idle

    def close(self) -> None:
        """Hand out nothing any more, and wake all who wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
