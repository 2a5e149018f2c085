"""Runs pika's event loop inside the calling thread, until something is so, and never longer than a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from pika.adapters.select_connection import IOLoop


class LoopDriver:
    """An event loop that runs only while somebody waits for something."""

    def __init__(self) -> None:
        self.ioloop = IOLoop()
        self._is_done: Callable[[], bool] | None = None

    def run(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Run until ``is_done()``, or until the deadline on the monotonic clock.

        ``is_done()`` is asked at the beginning, and whenever somebody calls :meth:`changed`. Whatever pika's callbacks
        raise comes out here.
        """
        self._is_done = is_done
        try:
            while not is_done():
                seconds = deadline - time.monotonic()
                if seconds <= 0:
                    break
                timer = self.ioloop.call_later(seconds, self.ioloop.stop)
                self.ioloop.start()
                self.ioloop.remove_timeout(timer)
        finally:
            self._is_done = None

    def one_turn(self) -> Callable[[], bool]:
        """A condition for :meth:`run` that lets the loop do what is due now, and wait for nothing."""
        answers = iter((False, True))
        self.ioloop.call_later(0, self.changed)
        return lambda: next(answers, True)

    def changed(self) -> None:
        """Called from the loop's callbacks: wake the waiting call when what it waits for has come."""
        if self._is_done is not None and self._is_done():
            self.ioloop.stop()

    def close(self) -> None:
        """Free the loop's own sockets."""
        self.ioloop.close()
