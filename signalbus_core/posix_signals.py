"""Stop requests: SIGTERM and SIGINT. A handler hands the request on and returns; the program decides what follows."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Sent by ``kill``, Kubernetes and systemd; by Ctrl-C.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_requests(
    on_request: Callable[[str], object], signals: tuple[signal.Signals, ...] = STOP_SIGNALS
) -> Iterator[None]:
    """While entered, a signal calls ``on_request`` with its name. Only for the main thread.

    :param on_request: interrupts the main thread at any point, perhaps while it holds a lock: so it may put into a
        :class:`queue.SimpleQueue`, but not set an event on which that thread waits.
    """
    before = {one: signal.signal(one, lambda number, _: on_request(signal.Signals(number).name)) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
