"""The poller's thread: the pause between polls, and the two conditions that make it end the relay.

It ends the relay when a table cannot serve as an outbox and, with ``--until-empty``, when nothing is left to send.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from signalbus_core.lowlevel import counted

from ..exit_codes import EXIT_CONFIGURATION, EXIT_OK, EXIT_RUNTIME, StopRequest
from ..runtime import Runtime
from ..scheduler import Scheduler
from ..worker.backoff import Backoff
from ..worker.hanging import HANGS_AFTER_SECONDS, hanging_reason
from .diagnosis.unreached import Unreached
from .interval import PollInterval
from .poller import Poller, TableError
from .requests import PollRequests

#: The longest pause after errors that no poll should raise.
LONGEST_ERROR_PAUSE_SECONDS = 5.0


class PollLoop:
    """Polls until the relay stops.

    :param requests: the requests for polls, and the results of polls.
    :param interval: between two polls.
    :param unreached: raises incidents for signals that polls find and no burst can lock.
    :param until_empty: ends the relay when nothing is left to send; None: it runs on.
    """

    name = "probe"

    def __init__(
        self,
        poller: Poller,
        scheduler: Scheduler,
        requests: PollRequests,
        interval: PollInterval,
        unreached: Unreached,
        runtime: Runtime,
        until_empty: UntilEmpty | None = None,
    ) -> None:
        self._poller = poller
        self._scheduler = scheduler
        self._requests = requests
        self._interval = interval
        self._unreached = unreached
        self._until_empty = until_empty
        self._events = runtime.events
        self._stop = runtime.stop
        self._clock = runtime.clock
        self._logger = runtime.logger
        self._backoff = Backoff(longest_seconds=LONGEST_ERROR_PAUSE_SECONDS)

    def run(self) -> None:
        """The thread's main function."""
        while not self._stop.is_set():
            try:
                pause_seconds = self.run_once()
            except TableError as error:
                self._stop.request(StopRequest(str(error), EXIT_CONFIGURATION))
                return
            except BaseException:
                # No known error arrives here. Without the poller nothing would be sent, so it goes on.
                self._logger.exception("The poller failed; it goes on.", extra={"action": "probe_error"})
                pause_seconds = self._backoff.failed()
                # What is left to send is not known.
                self._end_if_done(found=True, active=bool(self._scheduler.take_activity()))
            self._requests.wait(pause_seconds)

    def run_once(self) -> float:
        """Poll once; return how many seconds to wait before the next poll."""
        self._events.progressed(self.name)
        request = self._requests.begin()
        covered: Collection[str] = ()
        try:
            found = self._poller.run_once(request.cause, thorough=request.thorough, to_cover=request.to_cover)
            covered = self._poller.covered
        finally:
            self._requests.end(covered, self._poller.too_slow)
        active = self._scheduler.take_activity()
        if self._poller.covered_everything:
            self._unreached.polled(self._poller.found)
        self._end_if_done(found=found, active=bool(active))
        self._backoff.succeeded()
        # Signals whose producers send NOTIFY are sent without a poll.
        pause_seconds = self._interval.next_seconds(active=bool(self._requests.unanswered(active)))
        # A database that is away is polled at its own pace; the others do not wait for it.
        retry_seconds = self._poller.retry_in_seconds
        return pause_seconds if retry_seconds is None else min(pause_seconds, retry_seconds)

    def _end_if_done(self, *, found: bool, active: bool) -> None:
        if self._until_empty and (request := self._until_empty.polled(found=found, active=active)):
            self._stop.request(request)


class UntilEmpty:
    """Decides after each poll whether a relay with ``--until-empty`` ends.

    :param timeout_seconds: how long nothing may be sent while signals are pending. A burst that has made progress
        since is waited for.
    """

    def __init__(
        self,
        poller: Poller,
        scheduler: Scheduler,
        requests: PollRequests,
        unreached: Unreached,
        timeout_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._poller = poller
        self._scheduler = scheduler
        self._requests = requests
        self._unreached = unreached
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._last_activity = clock()

    def polled(self, *, found: bool, active: bool) -> StopRequest | None:
        """Learn from a poll; return the request to end the relay, if it is to end.

        :param found: there is something to send.
        :param active: signals were sent since the last poll.
        """
        if active:
            self._last_activity = self._clock()
        if (
            not found
            and self._poller.covered_everything
            and self._scheduler.is_idle()
            and not self._poller.has_suspects()
        ):
            if not self._poller.covered_every_key:
                # A signal may have been committed late, below a low-water mark.
                self._requests.poll_now(thorough=True)
                return None
            left = self._what_is_left()
            if left:
                return StopRequest(", and ".join(left), EXIT_RUNTIME)
            return StopRequest("nothing is left to send", EXIT_OK)
        if self._has_timed_out(found):
            reason = f"nothing could be sent for {self._timeout_seconds:g} s, and signals are left"
            return StopRequest(": ".join([reason, *self._why_pending()]), EXIT_RUNTIME)
        return None

    def _why_pending(self) -> list[str]:
        """Why the pending signals are not sent, in one text for people, if that can be told."""
        hanging = self._scheduler.turns_without_progress(HANGS_AFTER_SECONDS)
        why = [f"{name}: {hanging_reason(turns, self._clock())}" for name, turns in hanging.items()]
        if self._poller.covered_everything and (others := [n for n in self._poller.found if n not in hanging]):
            why.append(self._unreached.describe(others))
        return ["; ".join(why)] if why else []

    def _has_timed_out(self, found: bool) -> bool:
        """Whether nothing was sent for too long. A burst that locks nothing, or fails, does not count as progress."""
        if self._clock() - self._last_activity <= self._timeout_seconds:
            return False
        # The trial of a suspect does not count as progress either, however long it takes; nor does a burst that hangs.
        return not (found and self._scheduler.is_sending(max(self._timeout_seconds, HANGS_AFTER_SECONDS)))

    def _what_is_left(self) -> list[str]:
        """What was not sent although no worker will lock more, in words for people."""
        left = []
        if waiting := self._poller.count_failed():
            left.append(f"{counted(waiting, 'failed signal', 'is')} left")
        if unloadable := self._poller.count_unloadable():
            left.append(f"{counted(unloadable, verb='has')} keys that Python cannot hold")
        if held := self._poller.held:
            left.append(f"signals are left of {', '.join(held)}, which {'is' if len(held) == 1 else 'are'} paused")
        return left
