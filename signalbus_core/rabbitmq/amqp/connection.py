"""The connection to the broker, without channels. No call runs longer than its deadline.

pika's ``SelectConnection`` runs in the calling thread, only while that thread waits for something. Between calls the
owner calls ``pump()``, so that heartbeats continue and a close is noticed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pika
from pika.exceptions import ConnectionClosedByBroker
from pika.frame import Method

from .errors import describe
from .ioloop import JoiningConnection, LoopDriver
from .protocol import BrokerConnectionError
from .url import BrokerLocation

#: How long an orderly close waits for the broker's answer.
CLOSING_SECONDS = 2.0

#: How long the event loop may run to drop a connection.
ABORT_SECONDS = 1.0

#: The reply code of a broker whose limits are reached.
NOT_ALLOWED = 530

logger = logging.getLogger("signalbus.rabbitmq")


class BrokerStream:
    """An open connection without channels. Not thread-safe: the owner holds :attr:`lock`.

    :raises BrokerConnectionError: the broker cannot be reached within ``timeout_seconds``.
    """

    def __init__(self, location: BrokerLocation, timeout_seconds: float) -> None:
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self.location = location
        #: Why the broker takes no messages at the moment; None when it does.
        self.blocked_reason: str | None = None
        self._closed_reason: str | None = None
        self._closed_code = 0
        self._opened = False
        self._stream_ended = False
        self._is_released = False
        self._driver = LoopDriver()
        self._connection = JoiningConnection(
            location.parameters(timeout_seconds),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_close,
            custom_ioloop=self._driver.ioloop,
        )
        # pika's own timeout is shorter, because its error shows the cause better.
        self._run_until(lambda: self._opened, time.monotonic() + timeout_seconds + 0.5)
        if not self._opened:
            reason = self._closed_reason or f"no answer within {timeout_seconds:g} s"
            self.abort(reason)
            raise BrokerConnectionError(f"{location}: {reason}")
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    @property
    def is_open(self) -> bool:
        return self._closed_reason is None

    @property
    def closed_reason(self) -> str | None:
        """Why the connection is closed; None while it is open."""
        return self._closed_reason

    @property
    def was_short_of_channels(self) -> bool:
        """Whether the broker closed the connection because its user has reached a limit."""
        return self._closed_code == NOT_ALLOWED

    @property
    def heartbeat_seconds(self) -> float:
        """The heartbeat that was negotiated with the broker; 0 when there is none."""
        return float(self._connection.params.heartbeat or 0)

    @property
    def frame_max(self) -> int:
        return int(self._connection.params.frame_max)

    def pump(self) -> None:
        """Process heartbeats, a close or a block that are due, without waiting."""
        if self.is_open:
            self._turning(self._driver.one_turn)

    def abort(self, reason: str) -> None:
        """Drop the connection without an AMQP close, and free its socket."""
        self._closed_reason = self._closed_reason or reason
        if self._is_released:
            return
        self._is_released = True
        if not self._stream_ended:
            try:
                self._connection.abort_stream()
                self._driver.run(lambda: self._stream_ended, time.monotonic() + ABORT_SECONDS)
            except Exception:
                # pika may fail on a half-open connection; the socket is freed with the loop.
                logger.debug("Dropping a connection failed.", exc_info=True)
        self._driver.close()

    def close(self) -> None:
        """Close with an AMQP close; drop the connection when the broker does not answer."""
        if self.is_open:
            try:
                self._connection.close(200, "closed by the application")
                self._driver.run(lambda: self._stream_ended, time.monotonic() + CLOSING_SECONDS)
            except Exception:
                # The connection was lost at the same time.
                logger.debug("Closing a connection failed; it is dropped.", exc_info=True)
        self.abort("closed by the application")

    # Waiting

    def _await(self, is_done: Callable[[], bool], deadline: float, what: str) -> None:
        self._run_until(is_done, deadline)
        if is_done():
            return
        if self.is_open:
            self.abort(f"no answer to {what} in time")
        raise BrokerConnectionError(f"{self.location}: {self._closed_reason}")

    def _run_until(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Run the connection until ``is_done()``, the connection is lost, or the deadline has passed."""
        self._turning(lambda: self._driver.run(lambda: not self.is_open or is_done(), deadline))

    def _turning(self, turn: Callable[[], None]) -> None:
        try:
            turn()
        except Exception as error:  # noqa: BLE001 - pika lets errors of its callbacks out here, whatever they are
            self._closed_reason = self._closed_reason or f"{type(error).__name__}: {error}"
        if not self.is_open:
            self.abort("lost")

    # The connection

    def _on_open(self, _connection: pika.connection.Connection) -> None:
        self._opened = True

    def _on_open_error(self, _connection: pika.connection.Connection, error: BaseException | str) -> None:
        self._stream_ended = True
        self._closed_reason = self._closed_reason or describe(error)

    def _on_close(self, _connection: pika.connection.Connection, error: BaseException) -> None:
        self._stream_ended = True
        if self._closed_reason is None and isinstance(error, ConnectionClosedByBroker):
            self._closed_code = int(error.reply_code)
        self._closed_reason = self._closed_reason or describe(error)

    def _on_blocked(self, _connection: pika.connection.Connection, answer: Method[Any]) -> None:
        self.blocked_reason = answer.method.reason or "no reason given"

    def _on_unblocked(self, _connection: pika.connection.Connection, _answer: Method[Any]) -> None:
        self.blocked_reason = None
