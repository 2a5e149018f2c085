"""When a server that is away is tried again: by one thread of the process at a time, whoever else waits for it.

Invariants, for each server, however long it is away and however many threads wait:

- A try follows the one before after at most :data:`LONGEST_PAUSE_SECONDS`: so long, nobody notices that it is back.
- Only where the server answers and refuses the login, pauses grow, to :data:`LONGEST_REFUSED_PAUSE_SECONDS`.
- All waiting threads are woken together when it is back; they connect one after the other,
  :data:`FOLLOWING_SECONDS` apart.

:class:`Schedule` decides, and is pure: the time is passed in. :class:`Servers` shares it among threads.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Hashable, Iterable

#: The pause between two tries is drawn from this range. Longer: signals wait longer for a server that is back;
#: shorter: more tries a second.
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.3, 0.6

#: The longest pause while the server refuses the login. Longer: a corrected password is noticed later; shorter: more
#: logins, which cost a server more than a connection that it does not accept.
LONGEST_REFUSED_PAUSE_SECONDS = 5.0

#: Once the server is back, the connections of the process are opened this much apart, for so long. Shorter: more logins
#: at once.
FOLLOWING_SECONDS = 0.2
FOLLOWED_FOR_SECONDS = 30.0

#: A try begins with plain TCP connections to the server, which have so long to be accepted. Longer: a host that comes
#: back while its packets are lost is noticed later.
LISTENING_WITHIN_SECONDS = 1.0


class Schedule:
    """The tries of one process to reach one server."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        #: Why the last try failed; None when it succeeded, and before the first.
        self.problem: str | None = None
        self._is_trying = False
        self._next_at = float("-inf")
        self._calm_at = float("-inf")
        self._refusals = 0

    def claim(self, now: float) -> bool:
        """Whether the caller is to try now. It must report the end by :meth:`failed` or :meth:`reached`."""
        if self._is_trying or now < self._next_at:
            return False
        self._is_trying = True
        return True

    def failed(self, now: float, problem: str, *, was_refused: bool = False) -> None:
        """A try failed.

        :param was_refused: the server answered, and refused the login.
        """
        self._is_trying, self.problem = False, problem
        self._refusals = self._refusals + 1 if was_refused else 0
        longest = LONGEST_PAUSE_SECONDS * 2.0 ** min(self._refusals, 10)
        longest = min(longest, LONGEST_REFUSED_PAUSE_SECONDS) if was_refused else LONGEST_PAUSE_SECONDS
        self._next_at = now + self._uniform(longest / 2, longest)

    def reached(self, now: float) -> None:
        """A try succeeded."""
        if self.problem is not None:
            self._calm_at = now + FOLLOWED_FOR_SECONDS
        self._is_trying, self.problem, self._refusals = False, None, 0
        self._next_at = now + FOLLOWING_SECONDS if now < self._calm_at else now

    def suspected(self, problem: str) -> None:
        """What was done with it failed; the next try may begin at once."""
        self.problem = self.problem or problem

    def wait_seconds(self, now: float) -> float:
        """How long until the next try may begin; while one goes on, how long until it is worth asking again."""
        return LONGEST_PAUSE_SECONDS if self._is_trying else max(0.0, self._next_at - now)


class Servers:
    """The schedules of the servers that a relay uses, shared by its threads.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._changed = threading.Condition()
        self._schedules: dict[Hashable, Schedule] = {}
        self._is_closed = False
        self._listeners: list[Callable[[], object]] = []

    def problem(self, server: Hashable) -> str | None:
        """Why the last try to reach it failed; None when it succeeded, and before the first."""
        with self._changed:
            return self._of(server).problem

    def claim(self, server: Hashable) -> bool:
        """Whether the calling thread is to try now. It must report the end by :meth:`failed` or :meth:`reached`."""
        with self._changed:
            return self._of(server).claim(self._clock())

    def failed(self, server: Hashable, problem: str, *, was_refused: bool = False) -> None:
        """A try failed; ``was_refused``: the server answered, and refused the login."""
        with self._changed:
            self._of(server).failed(self._clock(), problem, was_refused=was_refused)
            self._changed.notify_all()

    def on_suspicion(self, listener: Callable[[], object]) -> None:
        """Call ``listener`` when a server is suspected."""
        self._listeners.append(listener)

    def suspect(self, server: Hashable, problem: str) -> None:
        """What a thread did with it failed as if it were away: a try is to find out."""
        with self._changed:
            self._of(server).suspected(problem)
            self._changed.notify_all()
        for listener in self._listeners:
            listener()

    def reached(self, server: Hashable) -> None:
        """A try succeeded: those who wait are woken."""
        with self._changed:
            self._of(server).reached(self._clock())
            self._changed.notify_all()

    def wait_seconds(self, server: Hashable) -> float:
        """How long until the next try to reach it may begin."""
        with self._changed:
            return self._of(server).wait_seconds(self._clock())

    def wait_until_reached(self, server: Hashable, timeout_seconds: float) -> None:
        """Wait until a try of another thread has succeeded; at most ``timeout_seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._of(server).problem is None, timeout_seconds)

    def wait(self, servers: Iterable[Hashable], timeout_seconds: float) -> None:
        """Wait until a try ends, or the next one to reach one of these may begin; at most ``timeout_seconds``.

        For a thread that then claims it: while a try is due, this does not wait.
        """
        with self._changed:
            now = self._clock()
            seconds = min((self._of(server).wait_seconds(now) for server in servers), default=timeout_seconds)
            if not self._is_closed:
                self._changed.wait(min(seconds, timeout_seconds))

    def close(self) -> None:
        """The relay stops: nobody waits any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _of(self, server: Hashable) -> Schedule:
        return self._schedules.setdefault(server, Schedule(self._uniform))
