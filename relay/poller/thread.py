"""The poller's thread: the pause between polls, and the two conditions that make it end the relay.

It ends the relay when a table cannot serve as an outbox and, with ``--until-empty``, when nothing is left to send.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..exit_codes import EXIT_CONFIGURATION, EXIT_OK, EXIT_RUNTIME, StopRequest
from ..scheduler import Scheduler
from ..telemetry.health import Health
from ..worker.backoff import Backoff, PollInterval
from ..worker.hanging import HANGS_AFTER_SECONDS
from .poller import Poller, TableError
from .requests import PollRequests
from .unreached import Unreached

logger = logging.getLogger("signalbus.relay")

#: The longest pause between two polls while a database is away.
LONGEST_DATABASE_RETRY_SECONDS = 5.0

#: When nothing was sent for so long, the signals that polls find are stuck, and a notifier may sleep in spite of them:
#: the workers know of them, and signals that are written later ring the doorbell.
STUCK_AFTER_SECONDS = 1.0


class PollLoop:
    """Polls until the relay stops.

    :param looks: the requests for polls, and the results of polls.
    :param unreached: raises incidents for signals that polls find and no burst can lock.
    :param until_empty: end the relay when nothing is left to send.
    :param patience_seconds: with ``until_empty``, how long nothing may be sent while signals are pending. A burst that
      has made progress since is waited for.
    :param request_stop: called, from the poller's thread, to end the relay.
    :param clock: a monotonic clock, in seconds.
    """

    name = "probe"

    def __init__(
        self,
        poller: Poller,
        scheduler: Scheduler,
        health: Health,
        poll: PollInterval,
        looks: PollRequests,
        stop: threading.Event,
        request_stop: Callable[[StopRequest], None],
        unreached: Unreached,
        *,
        until_empty: bool,
        patience_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poller = poller
        self._scheduler = scheduler
        self._health = health
        self._poll = poll
        self._looks = looks
        self._stop = stop
        self._request_stop = request_stop
        self._unreached = unreached
        self._until_empty = until_empty
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._backoff = Backoff(longest_seconds=LONGEST_DATABASE_RETRY_SECONDS)
        self._last_activity = clock()
        self._last_sent = float("-inf")

    def run(self) -> None:
        """The thread's main function."""
        while not self._stop.is_set():
            try:
                pause_seconds = self.run_once()
            except TableError as error:
                self._request_stop(StopRequest(str(error), EXIT_CONFIGURATION))
                return
            except BaseException:
                # No known error arrives here. Without the poller nothing would be sent, so it goes on.
                logger.exception("The poller failed; it goes on.", extra={"action": "probe_error"})
                pause_seconds = self._backoff.failed()
            if self._poller.database_is_up:
                self._looks.wait(pause_seconds)
            else:
                # Doorbells of other databases must not cut the backoff short.
                self._stop.wait(pause_seconds)

    def run_once(self) -> float:
        """Poll once; return how many seconds to wait before the next poll."""
        self._health.beat(self.name)
        cause, thorough = self._looks.begin()
        calm = False
        try:
            found = self._poller.run_once(cause, thorough=thorough)
            active = self._scheduler.take_activity()
            if active:
                self._last_sent = self._clock()
            is_stuck = self._clock() - self._last_sent > STUCK_AFTER_SECONDS
            calm = self._poller.saw_everything and (not found or is_stuck)
        finally:
            self._looks.end(calm=calm)
        if active:
            self._last_activity = self._clock()
        if self._poller.saw_everything:
            self._unreached.polled(self._poller.found)
        if self._until_empty:
            self._end_when_empty(found)
        if self._poller.database_is_up:
            self._backoff.succeeded()
            return self._poll.next_seconds(active=active)
        return self._backoff.failed()

    def _end_when_empty(self, found: bool) -> None:
        if not found and self._poller.saw_everything and self._scheduler.is_idle() and not self._poller.has_suspects():
            if not self._poller.saw_every_key:
                # A signal may have been committed late, below a low-water mark.
                self._looks.ask(thorough=True)
                return
            left = self._what_is_left()
            if left:
                self._request_stop(StopRequest(", and ".join(left), EXIT_RUNTIME))
            else:
                self._request_stop(StopRequest("nothing is left to send", EXIT_OK))
        elif self._has_lost_patience(found):
            reason = f"nothing could be sent for {self._patience_seconds:g} s, and signals are left"
            if self._poller.saw_everything and self._poller.found:
                reason += f": {self._unreached.describe(self._poller.found)}"
            self._request_stop(StopRequest(reason, EXIT_RUNTIME))

    def _has_lost_patience(self, found: bool) -> bool:
        """Whether nothing was sent for too long. A burst that locks nothing, or fails, does not count as progress."""
        if self._clock() - self._last_activity <= self._patience_seconds:
            return False
        # The trial of a suspect does not count as progress either, however long it takes; nor does a burst that hangs.
        return not (found and self._scheduler.is_sending(max(self._patience_seconds, HANGS_AFTER_SECONDS)))

    def _what_is_left(self) -> list[str]:
        """What was not sent although no worker will lock more, in words for people."""
        left = []
        if waiting := self._poller.count_failed():
            left.append(f"{waiting} failed {'signal is' if waiting == 1 else 'signals are'} left")
        if unloadable := self._poller.count_unloadable():
            left.append(f"{unloadable} signals have keys that Python cannot hold")
        if held := self._poller.held:
            left.append(f"signals are left of {', '.join(held)}, which {'is' if len(held) == 1 else 'are'} paused")
        return left
