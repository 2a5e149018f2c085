"""Stop requests by POSIX signals, heard wherever the drill waits."""

from __future__ import annotations

import queue
import signal
from types import FrameType

from .errors import DrillInterrupted


class StopRequests:
    """While entered, SIGINT, SIGTERM and SIGHUP end the next wait. Only for the main thread."""

    def __init__(self) -> None:
        # A signal handler may interrupt the main thread at any point; putting into this queue is safe even there.
        self._requests: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> StopRequests:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _request(self, number: int, _frame: FrameType | None) -> None:
        self._requests.put(number)

    def pause(self, seconds: float) -> None:
        """Wait.

        :raises DrillInterrupted: a stop request came.
        """
        try:
            number = self._requests.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return
        raise DrillInterrupted(signal.Signals(number).name)
