"""A connection to the fake broker. It replaces only the real connection, not the code that reads its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..rabbitmq.amqp.protocol import BrokerConnectionError, ConnectionClosedError, Link, NoAnswerError, Problem
from ..rabbitmq.amqp.url import BrokerNode
from ..rabbitmq.confirms import Confirms, Content
from .fake_broker import Answer, FakeBroker, ReceivedMessage, decoded, longest_frame

#: RabbitMQ's default, where the URL sets none.
FRAME_MAX = 131_072


class FakeLink(Link):
    """An open connection to a :class:`FakeBroker`.

    :raises BrokerConnectionError: the broker is unavailable.
    """

    def __init__(self, node: BrokerNode, broker: FakeBroker) -> None:
        super().__init__(node)
        self._broker = broker
        self._next_tag = 1
        if broker.away_reason is not None:
            raise BrokerConnectionError(f"{node}: {broker.away_reason}")

    @property
    def was_short_of_channels(self) -> bool:
        return False

    @property
    def heartbeat_seconds(self) -> float:
        return 0.0

    @property
    def frame_max(self) -> int:
        return FRAME_MAX

    def pump(self) -> None:
        if self._broker.away_reason is not None:
            self.abort(self._broker.away_reason)

    def check_channel_limit(self, timeout_seconds: float) -> None:
        self._require_broker()

    def channel_number(self, deadline: float) -> int:
        self._require_broker()
        return 1

    def exchange_exists(self, name: str, deadline: float) -> bool:
        self._require_broker()
        return name == "" or self._broker.has_exchange(name)

    def send(
        self, chunks: Sequence[tuple[bytes, int]], content_of: Callable[[int], Content], deadline: float
    ) -> tuple[Confirms, Problem]:
        confirms = Confirms(self._next_tag, len(chunks), content_of)
        self.pump()
        if self._closed_reason is not None:
            return confirms, self._closed_reason
        for tag, (data, _) in enumerate(chunks, start=self._next_tag):
            if longest_frame(data) > FRAME_MAX:
                reason = "501 FRAME_ERROR - a frame is longer than agreed"
                self.abort(reason)
                return confirms, ConnectionClosedError(501, reason, is_about_this_call=True)
            self._answer(confirms, tag, decoded(data))
        self._next_tag += len(chunks)
        if confirms.is_done:
            return confirms, None
        self.abort("no answer from the broker in time")
        return confirms, NoAnswerError("no answer from the broker in time")

    def _answer(self, confirms: Confirms, tag: int, message: ReceivedMessage) -> None:
        answer = self._broker.take(message)
        if answer is Answer.NACK:
            confirms.nack(tag, multiple=False)
        elif answer is Answer.RETURN:
            properties = message.properties
            content = Content(
                message.exchange, message.routing_key, properties.message_id, message.body, properties.headers
            )
            confirms.returned(content, "312 NO_ROUTE")
            confirms.ack(tag, multiple=False)
        elif answer is Answer.ACK:
            confirms.ack(tag, multiple=False)

    def abort(self, reason: str) -> None:
        self._closed_reason = self._closed_reason or reason

    def close(self) -> None:
        self.abort("closed by the application")

    def _require_broker(self) -> None:
        self.pump()
        if self._closed_reason is not None:
            raise BrokerConnectionError(f"{self.node}: {self._closed_reason}")
