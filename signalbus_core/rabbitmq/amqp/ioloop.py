"""Runs pika's event loop inside the calling thread, until something is so, and never longer than a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pika
from pika.adapters.select_connection import IOLoop
from pika.exceptions import StreamLostError


class LoopDriver:
    """An event loop that runs only while somebody waits for something.

    It turns the loop itself, as pika's ``BlockingConnection`` does: starting and stopping it would make a new poller
    each time.
    """

    def __init__(self) -> None:
        self.ioloop = IOLoop()
        self.ioloop.activate_poller()

    def run(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Run until ``is_done()``, or until the deadline on the monotonic clock.

        ``is_done()`` is asked at the beginning, and whenever something has happened. Whatever pika's callbacks raise
        comes out here.
        """
        if is_done():
            return
        # Nothing else would end a wait in which nothing happens.
        timer = self.ioloop.call_later(max(0.0, deadline - time.monotonic()), _nothing)
        try:
            while not is_done() and time.monotonic() < deadline:
                self._turn()
        finally:
            self.ioloop.remove_timeout(timer)

    def one_turn(self) -> None:
        """Let the loop do what is due now, and wait for nothing."""
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


#: Frames are joined until they make so many bytes. Larger: fewer system calls, more memory while they are sent.
WRITE_BYTES = 128 * 1024


class JoiningConnection(pika.SelectConnection):
    """Writes the frames of many messages with few system calls."""

    def write_frames(self, data: bytes, frames: int) -> None:
        self.bytes_sent += len(data)
        self.frames_sent += frames
        self._adapter_emit_data(data)

    def abort_stream(self) -> None:
        """Drop the stream. It is gone when the close callback has been called."""
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
