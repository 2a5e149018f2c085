"""The thread that polls a database: the pause between polls, and the two conditions that make it end the relay.

It ends the relay when a table cannot serve as an outbox and, with ``--until-empty``, when nothing is left to send.
Invariant: each database has a thread of its own, so that one that does not answer delays no other.
"""

from __future__ import annotations

from collections.abc import Collection

from ..exit_codes import EXIT_CONFIGURATION, StopRequest
from ..runtime import Runtime
from ..scheduler import Scheduler
from ..worker.backoff import Backoff
from .diagnosis.unreached import Unreached
from .interval import PollInterval
from .maintenance import TableError
from .poller import Poller
from .requests import PollRequests
from .until_empty import LastPoll, UntilEmpty

#: The longest pause after errors that no poll should raise.
LONGEST_ERROR_PAUSE_SECONDS = 5.0


class PollLoop:
    """Polls a database until the relay stops.

    :param requests: the requests for polls, and the results of polls.
    :param interval: between two polls.
    :param unreached: raises incidents for signals that polls find and no burst can lock.
    :param until_empty: ends the relay when nothing is left to send; None: it runs on.
    """

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
        bind_key = poller.database.bind_key
        self.name = "probe" if bind_key is None else f"probe-{bind_key}"
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
                self._end_if_done(self._last_poll(self._clock()))
            self._requests.wait(pause_seconds)

    def run_once(self) -> float:
        """Poll once; return how many seconds to wait before the next poll."""
        self._events.progressed(self.name)
        began_at = self._clock()
        request = self._requests.begin()
        covered: Collection[str] = ()
        try:
            found = self._poller.run_once(request.cause, thorough=request.thorough, to_cover=request.to_cover)
            covered = self._poller.covered
        finally:
            self._requests.end(covered, self._poller.too_slow)
        active = self._scheduler.take_activity(self._poller.database.names)
        if self._poller.covered_everything:
            self._unreached.polled(self._poller.found)
        self._end_if_done(self._last_poll(began_at, is_left=found))
        self._backoff.succeeded()
        # Signals whose producers send NOTIFY are sent without a poll.
        pause_seconds = self._interval.next_seconds(active=bool(self._requests.unanswered(active)))
        # A database that is away is polled at its own pace.
        retry_seconds = self._poller.retry_in_seconds
        return pause_seconds if retry_seconds is None else min(pause_seconds, retry_seconds)

    def _last_poll(self, began_at: float, *, is_left: bool | None = None) -> LastPoll:
        """What the poll has left; after one that failed, ``is_left`` is None."""
        poller, parts = self._poller, (self._poller, self._requests, self._unreached, began_at)
        if is_left is None or not poller.covered_everything:
            return LastPoll(*parts, is_left is not False)
        return LastPoll(*parts, is_left, tuple(poller.found), tuple(poller.held), poller.covered_every_key)

    def _end_if_done(self, poll: LastPoll) -> None:
        if self._until_empty and (request := self._until_empty.polled(poll)):
            self._stop.request(request)
