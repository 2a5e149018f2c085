"""The connection to the broker, without channels. No call runs longer than its deadline.

pika's ``SelectConnection`` runs in the calling thread, only while that thread waits for something. Between calls the
owner calls ``pump()``, so that heartbeats continue and a close is noticed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.exceptions import ConnectionClosedByBroker, StreamLostError
from pika.frame import Method

from ...model.sending.progress import report_progress
from .errors import describe, is_refusal
from .protocol import BrokerConnectionError, Link
from .url import BrokerNode

#: How long an orderly close waits for the broker's answer.
CLOSING_SECONDS = 2.0

#: How long the event loop may run to drop a connection.
ABORT_SECONDS = 1.0

#: The reply code of a broker whose limits are reached.
NOT_ALLOWED = 530
#: Frames are joined up to so many bytes. Larger: fewer system calls, more memory while they are sent.
WRITE_BYTES = 128 * 1024

logger = logging.getLogger("signalbus.rabbitmq")


class JoiningConnection(pika.SelectConnection):
    """Writes the frames of many messages with few system calls."""

    def write_frames(self, data: bytes, frames: int) -> None:
        self.bytes_sent += len(data)
        self.frames_sent += frames
        # What a partial send leaves of a view is not copied.
        self._adapter_emit_data(memoryview(data))

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


class BrokerStream(Link):
    """A :class:`~.protocol.Link`, as far as it needs no channel.

    :raises BrokerConnectionError: the broker cannot be reached within ``timeout_seconds``.
    """

    def __init__(self, node: BrokerNode, timeout_seconds: float) -> None:
        super().__init__(node)
        self._closed_code = 0
        self._was_refused = False
        self._opened = False
        self._stream_ended = False
        self._is_released = False
        # The loop's poller is called directly, as pika's BlockingConnection does: starting and stopping the loop would
        # create a new poller each time.
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._connection = JoiningConnection(
            node.parameters(timeout_seconds),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_close,
            custom_ioloop=self._loop,
        )
        # pika's own timeout is shorter, because its error shows the cause better.
        self._run_until(lambda: self._opened or not self.is_open, time.monotonic() + timeout_seconds + 0.5)
        if not self._opened:
            reason = self._closed_reason or f"no answer within {timeout_seconds:g} s"
            self.abort(reason)
            raise BrokerConnectionError(f"{node}: {reason}", was_refused=self._was_refused)
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    @property
    def was_short_of_channels(self) -> bool:
        """Whether the broker closed the connection because its user has reached a limit."""
        return self._closed_code == NOT_ALLOWED

    @property
    def heartbeat_seconds(self) -> float:
        return float(self._connection.params.heartbeat or 0)

    @property
    def frame_max(self) -> int:
        return int(self._connection.params.frame_max)

    def pump(self) -> None:
        if self.is_open:
            with self._noticing_loss():
                self._loop.call_later(0, _nothing)
                self._loop.poll()
                self._loop.process_timeouts()

    def abort(self, reason: str) -> None:
        self._closed_reason = self._closed_reason or reason
        if self._is_released:
            return
        self._is_released = True
        if not self._stream_ended:
            try:
                self._connection.abort_stream()
                self._run_until(lambda: self._stream_ended, time.monotonic() + ABORT_SECONDS)
            except Exception:
                # pika may fail on a half-open connection; the socket is freed with the loop.
                logger.debug("Dropping a connection failed.", exc_info=True)
        self._loop.close()

    def close(self) -> None:
        """Close with an AMQP close; drop the connection when the broker does not answer."""
        if self.is_open:
            try:
                self._connection.close(200, "closed by the application")
                self._run_until(lambda: self._stream_ended, time.monotonic() + CLOSING_SECONDS)
            except Exception:
                # The connection was lost at the same time.
                logger.debug("Closing a connection failed; it is dropped.", exc_info=True)
        self.abort("closed by the application")

    # Waiting

    def _await(self, is_done: Callable[[], bool], deadline: float, what: str) -> None:
        self._run_until(lambda: is_done() or not self.is_open, deadline)
        if is_done():
            return
        if self.is_open:
            self.abort(f"no answer to {what} in time")
        raise BrokerConnectionError(f"{self.node}: {self._closed_reason}")

    def _run_until(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Process events until ``is_done()``, or until the deadline on the monotonic clock.

        ``is_done()`` is called at the beginning, and after each event.
        """
        with self._noticing_loss():
            # Without this timer, a wait without events would not end.
            timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), _nothing)
            try:
                while not is_done() and time.monotonic() < deadline:
                    self._loop.poll()
                    self._loop.process_timeouts()
            finally:
                self._loop.remove_timeout(timer)

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        """Drop the connection if it is closed at the end of the block, or if the block fails."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - pika lets errors of its callbacks out here, whatever they are
            self._closed_reason = self._closed_reason or f"{type(error).__name__}: {error}"
        if not self.is_open:
            self.abort("lost")

    # The connection

    def _on_open(self, _connection: pika.connection.Connection) -> None:
        self._opened = True

    def _on_open_error(self, _connection: pika.connection.Connection, error: BaseException | str) -> None:
        self._stream_ended = True
        self._was_refused = is_refusal(error)
        self._closed_reason = self._closed_reason or describe(error)

    def _on_close(self, _connection: pika.connection.Connection, error: BaseException) -> None:
        self._stream_ended = True
        if self._closed_reason is None and isinstance(error, ConnectionClosedByBroker):
            self._closed_code = int(error.reply_code)
        self._closed_reason = self._closed_reason or describe(error)

    def _on_blocked(self, _connection: pika.connection.Connection, answer: Method[Any]) -> None:
        self.blocked_reason = answer.method.reason or "no reason given"
        report_progress()

    def _on_unblocked(self, _connection: pika.connection.Connection, _answer: Method[Any]) -> None:
        self.blocked_reason = None
        report_progress()


def _nothing() -> None:
    pass
