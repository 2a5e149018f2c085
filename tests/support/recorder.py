"""The events of parts under test, with the listeners that hear them in a relay."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from relay.listeners import Listeners
from relay.runtime import Runtime, Stop
from relay.servers.reconnect import Servers
from relay.telemetry.events import EVENTS, Events
from relay.telemetry.health import FLOW_WITHIN_SECONDS
from relay.worker.plan import BurstDecision
from signalbus_core.lowlevel import BurstResult

#: A verdict from which nothing follows.
ENDED = BurstDecision(more=False)


def burst(sent: int) -> BurstResult:
    """A burst that has sent all its signals."""
    return BurstResult(selected=sent, sent=sent)


class Recorder(Listeners):
    """The listeners of a relay, each event by itself, and the runtime that a part under test gets.

    :param names: of the signal models.
    :param logger: the name of the logger of incidents; parts log where those of a relay do.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        logger: str = "signalbus.relay",
        stall_after_seconds: float = 60,
        flow_within_seconds: float = FLOW_WITHIN_SECONDS,
        databases: int = 1,
    ) -> None:
        #: The name of each event, and its arguments.
        self.told: list[tuple[Any, ...]] = []
        others = [_listener(self.told)]
        limits = (stall_after_seconds, flow_within_seconds)
        super().__init__(names, logging.getLogger(logger), *limits, clock, others, databases)
        self.stop = Stop()
        self.runtime = Runtime(self.events, self.stop, clock, Servers(clock))


def _listener(told: list[tuple[Any, ...]]) -> Events:
    """Heeds every event."""

    def recording(name: str) -> Callable[..., None]:
        return lambda _self, *args, **kwargs: told.append((name, *args, *kwargs.values()))

    listener: Events = type("Told", (Events,), {name: recording(name) for name in EVENTS})()
    return listener
