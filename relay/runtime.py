"""What the threads of one relay share, and how each of them can end it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from .exit_codes import StopRequest
from .servers.reconnect import Servers
from .telemetry.events import Events


class Stop(threading.Event):
    """Set when the relay drains: no new burst begins. Threads wait on it instead of sleeping."""

    def __init__(self) -> None:
        super().__init__()
        # A signal handler may interrupt the main thread at any point; putting into this queue is safe even there.
        self._requests: queue.SimpleQueue[StopRequest] = queue.SimpleQueue()

    def request(self, request: StopRequest) -> None:
        """Ask the main thread to end the relay."""
        self._requests.put(request)

    def next_request(self, timeout_seconds: float) -> StopRequest | None:
        """The next request, which is waited for; None after the timeout."""
        try:
            return self._requests.get(timeout=timeout_seconds)
        except queue.Empty:
            return None


@dataclass(frozen=True)
class Runtime:
    """What the working parts get from the composition root.

    :param events: what happens is reported to it.
    :param clock: a monotonic clock, in seconds.
    :param servers: when the broker and the databases are tried again while they are away.
    """

    events: Events = field(default_factory=Events)
    stop: Stop = field(default_factory=Stop)
    clock: Callable[[], float] = time.monotonic
    servers: Servers = field(default_factory=Servers)
    logger: logging.Logger = field(default_factory=partial(logging.getLogger, "signalbus.relay"))
