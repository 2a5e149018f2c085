"""Requests for polls, and the results of polls; shared by the poller's thread, the workers and the notifiers.

Invariant: a requested poll begins after the request; a request during a poll leads to another poll after it. So a poll
that a notifier requests once it holds the sleep locks finds everything that was committed without a NOTIFY.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: While a notifier is awake, or waits for its sleep locks behind a long transaction, producers may commit without a
#: NOTIFY: then the pause between two polls is no longer than this, whatever the poll interval.
LONGEST_AWAKE_PAUSE_SECONDS = 1.0

#: After signals were sent, and while there are notifiers, the next poll comes at once, but no sooner than this after
#: the last one. Shorter: less latency at some hundred signals a second, more statements.
SENT_PAUSE_SECONDS = 0.005


class PollRequests:
    """Requests for polls, and their results.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._begun = 0
        self._ended = 0
        self._begun_at = float("-inf")
        self._found_nothing = False
        #: The number of the poll since which all polls have found nothing.
        self._found_nothing_since = 1
        self._due: float | None = None
        self._cause = "poll"
        self._thorough = False
        self._closed = False
        self._asleep: dict[str, bool] = {}
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

    def sent(self) -> None:
        """Signals were sent: with a notifier, poll for more, so that the notifier can go to sleep."""
        with self._changed:
            if self._asleep:
                due = self._begun_at + SENT_PAUSE_SECONDS
                self._due = due if self._due is None else min(self._due, due)
                self._changed.notify_all()

    def last(self) -> tuple[int, bool]:
        """The number of the poll that ended last, and whether it found nothing."""
        with self._changed:
            return self._ended, self._found_nothing

    def found_nothing_since(self, number: int) -> bool:
        """Whether this poll, and all that have ended after it, found nothing."""
        with self._changed:
            return self._ended >= number >= self._found_nothing_since

    # For notifiers

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each poll, and when no more will come."""
        with self._changed:
            self._listeners.append(listener)

    def set_notifier(self, name: str, *, asleep: bool | None) -> None:
        """Record that a notifier sleeps or is awake; None when it is not the leader of any table."""
        with self._changed:
            if asleep is None:
                self._asleep.pop(name, None)
            else:
                self._asleep[name] = asleep

    # For the poller's thread

    def wait(self, pause_seconds: float) -> None:
        """Wait until a poll is requested, at most for ``pause_seconds``."""
        with self._changed:
            deadline = self._clock() + pause_seconds
            if not all(self._asleep.values()):
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
            self._begun_at = self._clock()
            requested = (self._cause, self._thorough)
            self._due, self._cause, self._thorough = None, "poll", False
            return requested

    def end(self, *, found_nothing: bool) -> None:
        """The current poll has ended, and the scheduler knows its result.

        :param found_nothing: it covered everything and found nothing to send, so a notifier may sleep.
        """
        with self._changed:
            self._ended, self._found_nothing = self._begun, found_nothing
            if not found_nothing:
                self._found_nothing_since = self._begun + 1
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
