"""Runs pika's event loop in the calling thread, until a condition is met, and never longer than a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pika
from pika.adapters.select_connection import IOLoop
from pika.exceptions import StreamLostError


class LoopDriver:
    """An event loop that runs only while a caller waits.

    It calls the poller itself, as pika's ``BlockingConnection`` does: starting and stopping the loop would create a new
    poller each time.
    """

    def __init__(self) -> None:
        self.ioloop = IOLoop()
        self.ioloop.activate_poller()

    def run(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Run until ``is_done()``, or until the deadline on the monotonic clock.

        ``is_done()`` is called at the beginning, and after each event. Errors of pika's callbacks are raised here.
        """
        if is_done():
            return
        # Without this timer, a wait without events would not end.
        timer = self.ioloop.call_later(max(0.0, deadline - time.monotonic()), _nothing)
        try:
            while not is_done() and time.monotonic() < deadline:
                self._turn()
        finally:
            self.ioloop.remove_timeout(timer)

    def one_turn(self) -> None:
        """Process the events that are due, without waiting."""
        self.ioloop.call_later(0, _nothing)
        self._turn()

    def close(self) -> None:
        """Free the loop's own sockets."""
        self.ioloop.close()

    def _turn(self) -> None:
        self.ioloop.poll()
        self.ioloop.process_timeouts()


def _nothing() -> None:
    pass


#: Frames are joined up to so many bytes. Larger: fewer system calls, more memory while they are sent.
WRITE_BYTES = 128 * 1024


class JoiningConnection(pika.SelectConnection):
    """Writes the frames of many messages with few system calls."""

    def write_frames(self, data: bytes, frames: int) -> None:
        self.bytes_sent += len(data)
        self.frames_sent += frames
        self._adapter_emit_data(data)

    def abort_stream(self) -> None:
        """Drop the stream. It is closed when the close callback has been called."""
        if not self.is_closed:
            self._terminate_stream(StreamLostError("dropped"))


def joined(chunks: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """Join the data of messages into few pieces, with the number of frames of each."""
    pieces: list[tuple[bytes, int]] = []
    parts: list[bytes] = []
    size = frames = 0
    for data, count in chunks:
        parts.append(data)
        size += len(data)
        frames += count
        if size >= WRITE_BYTES:
            pieces.append((b"".join(parts), frames))
            parts, size, frames = [], 0, 0
    if parts:
        pieces.append((b"".join(parts), frames))
    return pieces
