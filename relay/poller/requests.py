"""Requests for polls, and the results of polls; shared by the poller's thread, the workers and the notifiers.

Invariant: a requested poll begins after the request; a request during a poll leads to another poll after it. So a poll
that a notifier requests once it holds the sleep locks finds everything that was committed without a NOTIFY, and hands
it to the workers, who forget nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

#: While a notifier is awake, or waits for its sleep locks behind a long transaction, producers may commit without a
#: NOTIFY: then the pause between two polls is no longer than this, whatever the poll interval.
LONGEST_AWAKE_PAUSE_SECONDS = 1.0


class PollRequests:
    """Requests for polls, and their results.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._begun = 0
        self._ended = 0
        #: The number of the last poll that covered every row.
        self._covered = 0
        self._due: float | None = None
        self._cause = "poll"
        self._thorough = False
        self._closed = False
        #: The models that each notifier answers for; None while it is awake.
        self._answered: dict[str, frozenset[str] | None] = {}
        self._listeners: list[Callable[[], None]] = []

    # For those who request a poll

    def poll_now(self, *, cause: str = "poll", thorough: bool = False) -> int:
        """Request a poll at once; return its number; it has not begun yet.

        :param cause: the label under which the poll is counted when it finds something.
        :param thorough: it must cover every row.
        """
        with self._changed:
            if cause != "poll":
                self._cause = cause
            self._thorough = self._thorough or thorough
            self._due = self._clock()
            self._changed.notify_all()
            return self._begun + 1

    def cover_next(self) -> int:
        """Let the next poll cover every row, whenever it comes; return its number."""
        with self._changed:
            self._thorough = True
            return self._begun + 1

    def last(self) -> tuple[int, int]:
        """The number of the poll that ended last, and of the last one that covered every row."""
        with self._changed:
            return self._ended, self._covered

    # For notifiers

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each poll, and when no more will come."""
        with self._changed:
            self._listeners.append(listener)

    def set_notifier(self, name: str, *, leads: bool = True, asleep: Iterable[str] | None = None) -> None:
        """Record what a notifier does.

        :param leads: it is the leader of some table.
        :param asleep: it sleeps, and answers for these models: polls find nothing that it does not know of.
        """
        with self._changed:
            if leads:
                self._answered[name] = None if asleep is None else frozenset(asleep)
            else:
                self._answered.pop(name, None)

    def unanswered(self, models: Iterable[str]) -> set[str]:
        """Those of the models whose signals are found by polls alone."""
        with self._changed:
            return set(models).difference(*(answered for answered in self._answered.values() if answered))

    # For the poller's thread

    def wait(self, pause_seconds: float) -> None:
        """Wait until a poll is requested, at most for ``pause_seconds``."""
        with self._changed:
            deadline = self._clock() + pause_seconds
            if None in self._answered.values():
                deadline = min(deadline, self._clock() + LONGEST_AWAKE_PAUSE_SECONDS)
            while not self._closed:
                until = deadline if self._due is None else min(deadline, self._due)
                remaining = until - self._clock()
                if remaining <= 0:
                    return
                self._changed.wait(remaining)

    def begin(self) -> tuple[str, bool]:
        """A poll begins; requests from now on are for a later poll. Returns its cause, and whether it is thorough."""
        with self._changed:
            self._begun += 1
            requested = (self._cause, self._thorough)
            self._due, self._cause, self._thorough = None, "poll", False
            return requested

    def end(self, *, covered_every_row: bool) -> None:
        """The current poll has ended, and the scheduler knows its result.

        :param covered_every_row: so a notifier that requested it may sleep.
        """
        with self._changed:
            self._ended = self._begun
            if covered_every_row:
                self._covered = self._begun
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def close(self) -> None:
        """No poll will come any more; wake all waiting threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
