"""When the poller looks next, and what its looks came to; shared by the probe's thread, the workers and the notifiers.

A look that is asked for begins after it was asked for: whoever asks while one is under way gets the one after it. So a
notifier that asks once it holds its lock knows that the look has seen everything that was committed silently.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: While a notifier is awake, or falling asleep behind a long transaction, producers may commit silently: then the
#: pause between two looks is no longer than this, whatever the poll interval.
LONGEST_AWAKE_PAUSE_SECONDS = 1.0

#: After signals were sent, and while there are notifiers, the next look comes at once, but no sooner than so long
#: after the last one. Shorter: less latency at some hundred signals a second, more statements.
SENT_PAUSE_SECONDS = 0.005


class PollRequests:
    """Requests for looks, and their outcomes.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._begun = 0
        self._ended = 0
        self._begun_at = float("-inf")
        self._calm = False
        #: The first of the looks that have been calm since the last one that was not.
        self._calm_since = 1
        self._due: float | None = None
        self._cause = "poll"
        self._thorough = False
        self._closed = False
        self._asleep: dict[str, bool] = {}
        self._listeners: list[Callable[[], None]] = []

    # For those who want a look

    def ask(self, *, cause: str = "poll", thorough: bool = False) -> int:
        """Have the poller look at once; return the number of the look, which has not begun yet.

        :param cause: what the look is counted as, when it finds something.
        :param thorough: it must see every row.
        """
        with self._changed:
            if cause != "poll":
                self._cause = cause
            self._thorough = self._thorough or thorough
            self._due = self._clock()
            self._changed.notify_all()
            return self._begun + 1

    def sent(self) -> None:
        """Signals were sent: with a notifier, look whether there is more, so that it can go to sleep."""
        with self._changed:
            if self._asleep:
                due = self._begun_at + SENT_PAUSE_SECONDS
                self._due = due if self._due is None else min(self._due, due)
                self._changed.notify_all()

    def last(self) -> tuple[int, bool]:
        """The number of the look that ended last, and whether it found all quiet."""
        with self._changed:
            return self._ended, self._calm

    def were_calm(self, number: int) -> bool:
        """Whether this look, and all that have ended after it, found all quiet."""
        with self._changed:
            return self._ended >= number >= self._calm_since

    # For notifiers

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each look, and when no more will come."""
        with self._changed:
            self._listeners.append(listener)

    def set_notifier(self, name: str, *, asleep: bool | None) -> None:
        """Note that a notifier sleeps or is awake; None when it answers no bell."""
        with self._changed:
            if asleep is None:
                self._asleep.pop(name, None)
            else:
                self._asleep[name] = asleep

    # For the probe's thread

    def wait(self, pause_seconds: float) -> None:
        """Wait until a look is asked for, at most for so long."""
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
        """A look begins; what is asked for from now on is a look after it. Returns its cause, and if it is thorough."""
        with self._changed:
            self._begun += 1
            self._begun_at = self._clock()
            asked = (self._cause, self._thorough)
            self._due, self._cause, self._thorough = None, "poll", False
            return asked

    def end(self, *, calm: bool) -> None:
        """The look that began last has ended, and what it found has been handed on.

        :param calm: it saw everything, and a notifier may sleep.
        """
        with self._changed:
            self._ended, self._calm = self._begun, calm
            if not calm:
                self._calm_since = self._begun + 1
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def close(self) -> None:
        """No look will come any more; wake all who wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
