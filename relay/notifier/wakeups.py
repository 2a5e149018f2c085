"""What a NOTIFY leads to: a burst at once. A poll comes first only where the model's table could not be read lately."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ..poller.poller import Poller
from ..poller.requests import PollRequests
from ..scheduler import Scheduler
from ..telemetry.events import Events


class Wakeups:
    """Wakes the workers, and the poller of a database, for its notifier."""

    def __init__(self, requests: PollRequests, poller: Poller, scheduler: Scheduler, events: Events) -> None:
        #: The polls that the notifiers need themselves.
        self.requests = requests
        self._poller = poller
        self._scheduler = scheduler
        self._events = events

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each poll, when a model has become quiet, and when no more polls will come."""
        self.requests.on_end(listener)
        self._scheduler.on_quiet(listener)

    def rung(self, models: Collection[str]) -> None:
        """Producers of these models have sent NOTIFY: their signals are committed."""
        handed_on = self._poller.hand_on_rung(models)
        self._events.rung(handed_on)
        if len(handed_on) < len(models):
            self.requests.poll_now(cause="doorbell")

    def begin_steps(self, models: Iterable[str]) -> None:
        """Producers of these models will be silent: let workers look for signals in short steps."""
        self._scheduler.begin_steps(models)

    def end_steps(self, models: Iterable[str]) -> None:
        """They will send NOTIFY again."""
        self._scheduler.end_steps(models)

    def quiet(self) -> set[str]:
        """The models in whose steps hardly anything is found any more."""
        return self._scheduler.quiet()
