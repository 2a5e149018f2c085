"""One connection to the broker, driven by the thread that uses it.

pika's ``SelectConnection`` runs inside the calling thread, for as long as that thread waits for something, and never
longer than a deadline. Between calls the owner pumps it, so that heartbeats go on and a close is noticed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker
from pika.frame import Method

from ..failpoints import reach
from .confirms import Confirms, Content, UnexpectedConfirmError
from .driver import LoopDriver
from .link import BrokerConnectionError, ChannelClosedError, ConnectionClosedError, NoAnswerError, Problem
from .location import BrokerLocation
from .reasons import describe
from .wire import JoiningConnection, joined

#: A close in good order is given so many seconds for the broker's answer.
CLOSING_SECONDS = 2.0

#: A pump waits for nothing; this bounds it if it should all the same.
PUMP_SECONDS = 1.0

#: Dropping a connection needs a turn of its loop; it is given so many seconds.
ABORT_SECONDS = 1.0

logger = logging.getLogger("signalbus.rabbitmq")


class BrokerConnection:
    """An open connection with one channel in confirm mode, reopened when the broker closes it.

    Not for several threads at once: the owner holds :attr:`lock` while it uses it.

    :raises BrokerConnectionError: the broker cannot be reached within ``timeout_seconds``.
    """

    def __init__(self, location: BrokerLocation, timeout_seconds: float) -> None:
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self.location = location
        #: Why the broker takes no messages at the moment; None when it does.
        self.blocked_reason: str | None = None
        #: Exchanges that are known to exist.
        self.verified_exchanges: set[str] = set()
        #: Exchanges that made the broker close a channel; their messages are sent alone until one gets through.
        self.suspect_exchanges: set[str] = set()
        #: Hashes of messages that made the broker close a channel; they are sent alone until they get through.
        self.suspect_messages: set[int] = set()
        self._closed_reason: str | None = None
        self._closed_code = 0
        # Messages of an earlier call may still be on their way, because the broker was blocked.
        self._left_messages = False
        self._opened = False
        self._stream_ended = False
        self._is_released = False
        self._channel: Channel | None = None
        self._channel_error: ChannelClosedError | None = None
        self._next_tag = 1
        self._confirms: Confirms | None = None
        self._driver = LoopDriver()
        self._connection = JoiningConnection(
            location.parameters(timeout_seconds),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_close,
            custom_ioloop=self._driver.ioloop,
        )
        # pika's own limit comes first, and tells better what went wrong.
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
    def heartbeat_seconds(self) -> float:
        """The heartbeat that was agreed on with the broker; 0 when there is none."""
        return float(self._connection.params.heartbeat or 0)

    @property
    def frame_max(self) -> int:
        return int(self._connection.params.frame_max)

    def pump(self) -> None:
        """Do what is due, and wait for nothing: heartbeats, a close, a block."""
        if self.is_open:
            self._run_until(self._driver.one_turn(), time.monotonic() + PUMP_SECONDS)

    def channel_number(self, deadline: float) -> int:
        """The number of the open channel; opens one when there is none.

        :raises BrokerConnectionError: the connection was lost, or the broker did not answer in time.
        """
        if self._channel is None:
            self._channel = self._open_channel(deadline)
            self._next_tag = 1
        return int(self._channel.channel_number)

    def send(
        self, chunks: Sequence[tuple[bytes, int]], content_of: Callable[[int], Content], deadline: float
    ) -> tuple[Confirms, Problem]:
        """Send encoded messages and wait for the broker's answers.

        :param chunks: the data of each message, with its number of frames.
        :returns: the answers, and why there are no more of them: the channel or the connection was closed, or the
          deadline passed (the connection is dropped then, unless the broker has blocked it). None when all messages
          are answered for.
        """
        confirms = Confirms(self._next_tag, len(chunks), content_of)
        if self._channel is None or not self.is_open:
            # Closed since the messages were encoded for it; nothing was sent.
            return confirms, self._closed_reason or self._channel_error or ChannelClosedError(0, "closed")
        self._confirms = confirms
        self._next_tag += len(chunks)
        self._channel_error = None
        for data, frames in joined(chunks):
            self._connection.write_frames(data, frames)
            reach("publishing")
        self._run_until(lambda: confirms.is_done or self._channel_error is not None, deadline)
        self._confirms = None
        if confirms.is_done:
            return confirms, None
        if not self.is_open:
            return confirms, self._lost()
        if self._channel_error is not None:
            return confirms, self._channel_error
        reason = "no answer from the broker in time"
        if self.blocked_reason is not None:
            # Kept open: the broker reads what was sent once it takes messages again. A connection opened anew would
            # not be told that it is blocked before it has sent another copy.
            self._left_messages = True
            return confirms, f"{reason}; it takes no messages at the moment ({self.blocked_reason})"
        self.abort(reason)
        return confirms, NoAnswerError(reason)

    def exchange_exists(self, name: str, deadline: float) -> bool:
        """Ask the broker whether it has an exchange, on a channel of its own: a missing one closes the channel.

        :raises BrokerConnectionError: the connection was lost, or the broker did not answer in time.
        :raises ChannelClosedError: the broker refused to tell.
        """
        if name == "" or name in self.verified_exchanges:
            return True
        answers: list[bool | ChannelClosedError] = []

        def closed(_channel: Channel, error: Exception) -> None:
            if not answers:
                answers.append(_channel_closed(error))

        channel = self._open_channel(deadline, confirm=False, on_close=closed)

        def declared(_frame: Method[Any]) -> None:
            answers.append(True)
            self._driver.changed()

        channel.exchange_declare(name, passive=True, callback=declared)
        self._await(lambda: bool(answers), deadline, "exchange.declare")
        [answer] = answers
        if isinstance(answer, ChannelClosedError):
            if answer.code != 404:
                raise answer
            return False
        if self.is_open and channel.is_open:
            channel.close()
        self.verified_exchanges.add(name)
        return True

    def abort(self, reason: str) -> None:
        """Drop the connection without a word, and free its socket."""
        self._closed_reason = self._closed_reason or reason
        if self._is_released:
            return
        self._is_released = True
        if not self._stream_ended:
            try:
                self._connection.abort_stream()
                self._driver.run(lambda: self._stream_ended, time.monotonic() + ABORT_SECONDS)
            except Exception:
                # Half-open states of pika's; the socket goes with the loop.
                logger.debug("Dropping a connection failed.", exc_info=True)
        self._driver.close()

    def close(self) -> None:
        """Close in good order; drop the connection when the broker does not answer."""
        if self.is_open:
            try:
                self._connection.close(200, "closed by the application")
                self._driver.run(lambda: self._stream_ended, time.monotonic() + CLOSING_SECONDS)
            except Exception:
                # It was being lost at the same time.
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
        """Run the connection until something is done, the connection is lost, or the deadline has passed."""
        try:
            self._driver.run(lambda: not self.is_open or is_done(), deadline)
        except Exception as error:  # noqa: BLE001 - pika lets errors of its callbacks out here, whatever they are
            self._closed_reason = self._closed_reason or f"{type(error).__name__}: {error}"
        if not self.is_open:
            self.abort("lost")

    # Channels

    def _open_channel(
        self, deadline: float, *, confirm: bool = True, on_close: Callable[[Channel, Exception], None] | None = None
    ) -> Channel:
        if not self.is_open:
            raise BrokerConnectionError(f"{self.location}: {self._closed_reason}")
        ready: list[Channel] = []

        def opened(channel: Channel) -> None:
            channel.add_on_close_callback(on_close or self._on_channel_closed)
            channel.add_on_close_callback(lambda *_: self._driver.changed())
            if confirm:
                channel.add_on_return_callback(self._on_return)
                channel.confirm_delivery(self._on_confirm, callback=lambda _frame: is_ready(channel))
            else:
                is_ready(channel)

        def is_ready(channel: Channel) -> None:
            ready.append(channel)
            self._driver.changed()

        self._connection.channel(on_open_callback=opened)
        self._await(lambda: bool(ready), deadline, "channel.open")
        return ready[0]

    def _on_channel_closed(self, _channel: Channel, error: Exception) -> None:
        self._channel = None
        self._channel_error = _channel_closed(error)

    def _on_confirm(self, answer: Method[Any]) -> None:
        # Once it is lost, nothing that is still in pika's buffer is trusted.
        if self._confirms is None or not self.is_open:
            return
        reach("awaiting")
        note = self._confirms.ack if isinstance(answer.method, pika.spec.Basic.Ack) else self._confirms.nack
        try:
            note(answer.method.delivery_tag, multiple=answer.method.multiple)
        except UnexpectedConfirmError as error:
            self._closed_reason = str(error)
        self._driver.changed()

    def _on_return(
        self, _channel: Channel, method: pika.spec.Basic.Return, properties: pika.BasicProperties, body: bytes
    ) -> None:
        if self._confirms is not None:
            content = Content(
                method.exchange or "", method.routing_key or "", properties.message_id, body, properties.headers
            )
            self._confirms.returned(content, f"{method.reply_code} {method.reply_text}")

    # The connection

    def _lost(self) -> str | ConnectionClosedError:
        reason = self._closed_reason or "lost"
        if not self._closed_code:
            return reason
        return ConnectionClosedError(self._closed_code, reason, is_about_this_call=not self._left_messages)

    def _on_open(self, _connection: pika.connection.Connection) -> None:
        self._opened = True
        self._driver.changed()

    def _on_open_error(self, _connection: pika.connection.Connection, error: BaseException | str) -> None:
        self._stream_ended = True
        self._closed_reason = self._closed_reason or describe(error)
        self._driver.changed()

    def _on_close(self, _connection: pika.connection.Connection, error: BaseException) -> None:
        self._stream_ended = True
        if self._closed_reason is None and isinstance(error, ConnectionClosedByBroker):
            self._closed_code = int(error.reply_code)
        self._closed_reason = self._closed_reason or describe(error)
        self._driver.changed()

    def _on_blocked(self, _connection: pika.connection.Connection, answer: Method[Any]) -> None:
        self.blocked_reason = answer.method.reason or "no reason given"

    def _on_unblocked(self, _connection: pika.connection.Connection, _answer: Method[Any]) -> None:
        self.blocked_reason = None


def _channel_closed(error: Exception) -> ChannelClosedError:
    if isinstance(error, ChannelClosedByBroker):
        return ChannelClosedError(error.reply_code, error.reply_text)
    return ChannelClosedError(0, describe(error))
