"""One connection to the broker with a channel in confirm mode.

When the broker closes the channel, this is its answer to the messages in flight on it; the connection stays open.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method

from ...burst.failpoints import failpoint
from ...model.sending.progress import report_progress
from ..confirms import Confirms, Content, UnexpectedConfirmError
from .connection import BrokerStream, joined
from .errors import describe
from .protocol import BrokerConnectionError, ChannelClosedError, ConnectionClosedError, NoAnswerError, Problem
from .url import BrokerNode

#: The one for messages, and one beside it to ask for exchanges.
CHANNELS = 2


class BrokerConnection(BrokerStream):
    """A :class:`~.protocol.Link` whose channel is reopened when the broker closes it.

    :raises BrokerConnectionError: the broker cannot be reached within ``timeout_seconds``.
    """

    def __init__(self, node: BrokerNode, timeout_seconds: float) -> None:
        # Messages of an earlier call may still be in flight, because the broker had blocked the connection.
        self._left_messages = False
        self._channel: Channel | None = None
        self._channel_error: ChannelClosedError | None = None
        self._next_tag = 1
        self._confirms: Confirms | None = None
        super().__init__(node, timeout_seconds)
        most = int(self._connection.params.channel_max or CHANNELS)
        if most < CHANNELS:
            self.abort("too few channels")
            raise BrokerConnectionError(
                f"{node}: a connection may have {most} channel, and {CHANNELS} are needed: set channel_max in the "
                "URL and in the broker's configuration to more, or leave it out"
            )

    def check_channel_limit(self, timeout_seconds: float) -> None:
        """Open as many channels as are ever needed at once. The broker may limit those of a user.

        :raises BrokerConnectionError: the broker allows fewer, or did not answer in time.
        """
        deadline = time.monotonic() + timeout_seconds
        self.channel_number(deadline)
        self._open_channel(deadline, confirm=False, on_close=lambda _channel, _error: None).close()

    def channel_number(self, deadline: float) -> int:
        if self._channel is None:
            self._channel = self._open_channel(deadline)
            self._next_tag = 1
        return int(self._channel.channel_number)

    def send(
        self, chunks: Sequence[tuple[bytes, int]], content_of: Callable[[int], Content], deadline: float
    ) -> tuple[Confirms, Problem]:
        confirms = Confirms(self._next_tag, len(chunks), content_of)
        if self._channel is None or not self.is_open:
            # The channel was closed after the messages were encoded for it; nothing was sent.
            return confirms, self._closed_reason or self._channel_error or ChannelClosedError(0, "closed")
        self._confirms = confirms
        self._next_tag += len(chunks)
        self._channel_error = None
        for data, frames in joined(chunks):
            self._connection.write_frames(data, frames)
            failpoint("publishing")
        unanswered = len(chunks)

        def has_ended() -> bool:
            nonlocal unanswered
            if confirms.unanswered < unanswered:
                unanswered = confirms.unanswered
                report_progress()
            return confirms.is_done or self._channel_error is not None or not self.is_open

        self._run_until(has_ended, deadline)
        self._confirms = None
        if confirms.is_done:
            return confirms, None
        if not self.is_open:
            return confirms, self._lost()
        if self._channel_error is not None:
            return confirms, self._channel_error
        reason = "no answer from the broker in time"
        if self.blocked_reason is not None:
            # Kept open: the broker reads the messages when the alarm ends. A new connection would receive
            # connection.blocked only after it has published another copy.
            self._left_messages = True
            return confirms, f"{reason}; it takes no messages at the moment ({self.blocked_reason})"
        self.abort(reason)
        return confirms, NoAnswerError(reason)

    def exchange_exists(self, name: str, deadline: float) -> bool:
        # On a separate channel, which a missing exchange closes.
        if name == "" or name in self.verified_exchanges:
            return True
        answers: list[bool | ChannelClosedError] = []

        def closed(_channel: Channel, error: Exception) -> None:
            if not answers:
                answers.append(_channel_closed(error))

        channel = self._open_channel(deadline, confirm=False, on_close=closed)

        def declared(_frame: Method[Any]) -> None:
            answers.append(True)

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

    # Channels

    def _open_channel(
        self, deadline: float, *, confirm: bool = True, on_close: Callable[[Channel, Exception], None] | None = None
    ) -> Channel:
        if not self.is_open:
            raise BrokerConnectionError(f"{self.node}: {self._closed_reason}")
        ready: list[Channel] = []

        def opened(channel: Channel) -> None:
            channel.add_on_close_callback(on_close or self._on_channel_closed)
            if confirm:
                channel.add_on_return_callback(self._on_return)
                channel.confirm_delivery(self._on_confirm, callback=lambda _frame: is_ready(channel))
            else:
                is_ready(channel)

        def is_ready(channel: Channel) -> None:
            ready.append(channel)

        self._connection.channel(on_open_callback=opened)
        self._await(lambda: bool(ready), deadline, "channel.open")
        return ready[0]

    def _on_channel_closed(self, _channel: Channel, error: Exception) -> None:
        self._channel = None
        self._channel_error = _channel_closed(error)

    def _on_confirm(self, answer: Method[Any]) -> None:
        # After the connection was lost, answers that are still in pika's buffer are ignored.
        if self._confirms is None or not self.is_open:
            return
        failpoint("awaiting")
        note = self._confirms.ack if isinstance(answer.method, pika.spec.Basic.Ack) else self._confirms.nack
        try:
            note(answer.method.delivery_tag, multiple=answer.method.multiple)
        except UnexpectedConfirmError as error:
            self._closed_reason = str(error)

    def _on_return(
        self, _channel: Channel, method: pika.spec.Basic.Return, properties: pika.BasicProperties, body: bytes
    ) -> None:
        if self._confirms is not None:
            content = Content(
                method.exchange or "", method.routing_key or "", properties.message_id, body, properties.headers
            )
            self._confirms.returned(content, f"{method.reply_code} {method.reply_text}")

    def _lost(self) -> str | ConnectionClosedError:
        reason = self._closed_reason or "lost"
        if not self._closed_code:
            return reason
        return ConnectionClosedError(self._closed_code, reason, is_about_this_call=not self._left_messages)


def _channel_closed(error: Exception) -> ChannelClosedError:
    if isinstance(error, ChannelClosedByBroker):
        return ChannelClosedError(error.reply_code, error.reply_text)
    return ChannelClosedError(0, describe(error))
