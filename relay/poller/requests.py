"""Requests for polls, and the results of polls; shared by the poller's thread, the workers and the notifiers.

Invariant: a requested poll begins after the request; a request during a poll leads to another poll after it. So a poll
that a notifier requests once it holds a table's sleep lock finds everything that was committed there without a NOTIFY,
and hands it to the workers, who forget nothing.

A notifier requests coverage of each of its models. A model that cannot be read, or whose scan from the first key timed
out, is still to be covered: it delays no other model, and makes the polls of no other model thorough.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

#: While a notifier is awake, or waits for its sleep locks behind a long transaction, producers may commit without a
#: NOTIFY: then the pause between two polls is no longer than this, whatever the poll interval.
LONGEST_AWAKE_PAUSE_SECONDS = 1.0


class PollRequest(NamedTuple):
    """What is requested of a poll.

    :param cause: the label under which it is counted when it finds something.
    :param thorough: it must cover every row of all models.
    :param to_cover: the models of which it must cover every row.
    """

    cause: str
    thorough: bool
    to_cover: frozenset[str]


class PollRequests:
    """Requests for polls, and their results.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._begun = 0
        self._ended = 0
        #: The models of which every row is to be covered, each with the number of the first poll that counts.
        self._to_cover: dict[str, int] = {}
        #: Those whose last scan from the first key timed out. The next such scan comes when it is due by its cost.
        self._too_slow: frozenset[str] = frozenset()
        self._due: float | None = None
        self._cause = "poll"
        self._thorough = False
        self._closed = False
        #: The models that each notifier answers for.
        self._answered: dict[str, frozenset[str]] = {}
        #: The notifiers that do not answer for all models that they lead.
        self._awake: set[str] = set()
        self._listeners: list[Callable[[], None]] = []

    # For those who request a poll

    def poll_now(self, *, cause: str = "poll", thorough: bool = False) -> int:
        """Request a poll at once; return its number; it has not begun yet.

        :param cause: the label under which the poll is counted when it finds something.
        :param thorough: it must cover every row of all models.
        """
        with self._changed:
            if cause != "poll":
                self._cause = cause
            self._thorough = self._thorough or thorough
            self._due = self._clock()
            self._changed.notify_all()
            return self._begun + 1

    def last(self) -> int:
        """The number of the poll that ended last."""
        with self._changed:
            return self._ended

    # For notifiers

    def cover(self, models: Collection[str]) -> None:
        """Request a poll of every row of these models, at once. Where it cannot read one, later polls try again."""
        if models:
            with self._changed:
                self._to_cover |= dict.fromkeys(models, self._begun + 1)
            self.poll_now()

    def uncovered(self, models: Iterable[str]) -> set[str]:
        """Those of the models that no poll has covered since that was requested."""
        with self._changed:
            return self._to_cover.keys() & set(models)

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each poll, and when no more will come."""
        with self._changed:
            self._listeners.append(listener)

    def set_notifier(self, name: str, *, answers: Iterable[str] = (), awake: bool = False) -> None:
        """Record what a notifier does.

        :param answers: it answers for these models: polls find nothing of them that it does not know of.
        :param awake: it leads others too, whose producers may commit without a NOTIFY.
        """
        with self._changed:
            self._answered[name] = frozenset(answers)
            (self._awake.add if awake else self._awake.discard)(name)

    def unanswered(self, models: Iterable[str]) -> set[str]:
        """Those of the models whose signals are found by polls alone."""
        with self._changed:
            return set(models).difference(*self._answered.values())

    # For the poller's thread

    def wait(self, pause_seconds: float) -> None:
        """Wait until a poll is requested, at most for ``pause_seconds``."""
        with self._changed:
            deadline = self._clock() + pause_seconds
            if self._awake:
                deadline = min(deadline, self._clock() + LONGEST_AWAKE_PAUSE_SECONDS)
            while not self._closed:
                until = deadline if self._due is None else min(deadline, self._due)
                remaining = until - self._clock()
                if remaining <= 0:
                    return
                self._changed.wait(remaining)

    def begin(self) -> PollRequest:
        """A poll begins; requests from now on are for a later poll."""
        with self._changed:
            self._begun += 1
            requested = PollRequest(self._cause, self._thorough, frozenset(self._to_cover) - self._too_slow)
            self._due, self._cause, self._thorough = None, "poll", False
            return requested

    def end(self, covered: Collection[str], too_slow: Collection[str] = ()) -> None:
        """The current poll has ended, and the scheduler knows its result.

        :param covered: the models of which it covered every row: a notifier may answer for them.
        :param too_slow: the models whose scans from the first key timed out.
        """
        with self._changed:
            self._ended = self._begun
            for name in covered:
                if self._to_cover.get(name, self._begun + 1) <= self._begun:
                    del self._to_cover[name]
            self._too_slow = self._too_slow.difference(covered).union(too_slow)
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
