"""The listeners to the events of the relay: what is known of it, for readers in other threads.

Invariant: one listener keeps each fact. ``Metrics`` counts, and reads all its gauges of present states from the
others, so that a scrape, the page and ``/readyz`` tell the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from .telemetry.events import Events, FanOut
from .telemetry.health import FLOW_WITHIN_SECONDS, Health
from .telemetry.incidents import Incidents
from .telemetry.metrics import Metrics
from .telemetry.states import ModelStates
from .telemetry.status import Status


class Listeners:
    """The four listeners of one relay.

    :param names: the names of the signal models.
    :param clock: a monotonic clock, in seconds.
    :param others: further listeners.
    :param databases: how many there are.
    """

    def __init__(
        self,
        names: Sequence[str],
        logger: logging.Logger,
        stall_after_seconds: float,
        flow_within_seconds: float = FLOW_WITHIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        others: Sequence[Events] = (),
        databases: int = 1,
    ) -> None:
        self.health = Health(stall_after_seconds, clock, flow_within_seconds, databases=databases)
        self.status = Status(names, clock)
        self.incidents = Incidents(logger, clock, broker_at=self.health.broker_at)
        states = ModelStates(self.status, self.health, self.incidents)
        self.metrics = Metrics(health=self.health, status=self.status, states=states)
        self.metrics.prepare(names)
        #: Health first: incidents depend on what it knows of the brokers.
        self.events: Events = FanOut(self.health, self.metrics, self.status, self.incidents, *others)
