"""Decides when a relay with ``--until-empty`` ends: when the last polls of all databases have left nothing to send.

Invariant: no signal is left behind that was written before the last one was sent: each database was polled since then,
from the first key on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from signalbus_core.lowlevel import autocommit, count_unloadable_keys, counted

from ..exit_codes import EXIT_OK, EXIT_RUNTIME, StopRequest
from ..scheduler import Scheduler
from ..telemetry.states import BACKLOG_COUNTED_TO
from ..worker.hanging import HANGS_AFTER_SECONDS, hanging_reason
from .database import PolledDatabase
from .diagnosis.unreached import Unreached
from .joint_query import POLL_LIMITS
from .poller import Poller
from .requests import PollRequests


@dataclass(frozen=True)
class LastPoll:
    """What the last poll of a database has left.

    :param began_at: when it began, by the clock of the relay.
    :param is_left: there is something to send, or that is not known.
    :param pending: the models with signals that a worker can lock; None when that is not known of all.
    :param held: the paused models with such signals.
    :param covered_every_key: it covered every row of all models.
    """

    poller: Poller
    requests: PollRequests
    unreached: Unreached
    began_at: float
    is_left: bool
    pending: tuple[str, ...] | None = None
    held: tuple[str, ...] = ()
    covered_every_key: bool = False


class UntilEmpty:
    """Decides after each poll whether the relay ends; shared by the threads of all pollers.

    :param databases: the number of databases.
    :param timeout_seconds: how long nothing may be sent while signals are pending. A burst that has made progress
        since is waited for.
    """

    def __init__(
        self, databases: int, scheduler: Scheduler, timeout_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._databases = databases
        self._scheduler = scheduler
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[Poller, LastPoll] = {}
        self._started_at = clock()

    def polled(self, poll: LastPoll) -> StopRequest | None:
        """Learn from a poll; return the request to end the relay, if it is to end."""
        with self._lock:
            self._last[poll.poller] = poll
            polls = list(self._last.values())
        is_left = len(polls) < self._databases or any(one.is_left or one.pending is None for one in polls)
        if not is_left and self._scheduler.is_idle() and not any(one.poller.has_suspects() for one in polls):
            # A signal may have been committed late, below a low-water mark, or by what was sent from another database.
            # Read after the scheduler was idle: a turn that had committed, and not ended, was seen as one.
            last_sent_at = self._scheduler.last_sent_at
            again = [one for one in polls if not one.covered_every_key or one.began_at <= last_sent_at]
            for one in again:
                one.requests.poll_now(thorough=True)
            return None if again else _end(polls)
        if self._has_timed_out(is_left=any(one.is_left for one in polls)):
            reason = f"nothing could be sent for {self._timeout_seconds:g} s, and signals are left"
            return StopRequest(": ".join([reason, *self._why_pending(polls)]), EXIT_RUNTIME)
        return None

    def _why_pending(self, polls: list[LastPoll]) -> list[str]:
        """Why the pending signals are not sent, in one text for people, if that can be told."""
        hanging = self._scheduler.turns_without_progress(HANGS_AFTER_SECONDS)
        why = [f"{name}: {hanging_reason(turns, self._clock())}" for name, turns in hanging.items()]
        for one in polls:
            if others := [name for name in one.pending or () if name not in hanging]:
                why.append(one.unreached.describe(others))
        return ["; ".join(why)] if why else []

    def _has_timed_out(self, *, is_left: bool) -> bool:
        """Whether nothing was sent for too long. A burst that locks nothing, or fails, does not count as progress."""
        if self._clock() - max(self._started_at, self._scheduler.last_sent_at) <= self._timeout_seconds:
            return False
        # The trial of a suspect does not count as progress either, however long it takes; nor does a burst that hangs.
        return not (is_left and self._scheduler.is_sending(max(self._timeout_seconds, HANGS_AFTER_SECONDS)))


def _end(polls: list[LastPoll]) -> StopRequest:
    """End the relay, and say what was not sent although no worker will lock more."""
    left = []
    if waiting := sum(one.poller.count_failed() for one in polls):
        left.append(f"{counted(waiting, 'failed signal', 'is')} left")
    if unloadable := sum(_count_unloadable(one.poller.database) for one in polls):
        left.append(f"{counted(unloadable, verb='has')} keys that Python cannot hold")
    if held := [name for one in polls for name in one.held]:
        left.append(f"signals are left of {', '.join(held)}, which {'is' if len(held) == 1 else 'are'} paused")
    return StopRequest(", and ".join(left), EXIT_RUNTIME) if left else StopRequest("nothing is left to send", EXIT_OK)


def _count_unloadable(database: PolledDatabase) -> int:
    """How many signals no relay can send, because Python cannot represent their keys; counted like a backlog."""
    if not database.specs:
        return 0
    with autocommit(database.engine, POLL_LIMITS) as connection:
        return sum(count_unloadable_keys(connection, spec, BACKLOG_COUNTED_TO) for spec in database.specs)
