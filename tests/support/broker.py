"""What a test asks of a broker: exchanges and queues with names of their own, and the messages in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

#: Fewer messages are got one by one. Each takes a round trip, and ten times the time of one that is delivered.
FEW = 10

#: At most so many are delivered before they are acknowledged.
PREFETCHED = 2_000

#: A message that the broker counts is delivered within so many seconds.
DELIVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Received:
    """A message as it came out of a queue."""

    routing_key: str
    body: bytes
    properties: BasicProperties

    @property
    def text(self) -> str:
        return self.body.decode()


class Broker:
    """A test's own connection to a broker. Names are unique, and what was declared is deleted at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._exchanges: list[str] = []
        self._queues: list[str] = []
        self._connection: pika.BlockingConnection | None = None

    @property
    def channel(self) -> BlockingChannel:
        if self._connection is None or not self._connection.is_open:
            self._connection = pika.BlockingConnection(pika.URLParameters(self.url))
        return self._connection.channel()

    def exchange(self, kind: str = "topic", **arguments: Any) -> str:
        """Declare an exchange; return its name."""
        name = f"x-{uuid.uuid4().hex[:10]}"
        with self.channel as channel:
            channel.exchange_declare(name, exchange_type=kind, durable=True, **arguments)
        self._exchanges.append(name)
        return name

    def queue(self, exchange: str | None = None, routing_key: str = "#", **arguments: Any) -> str:
        """Declare a queue, bound to an exchange where one is given; return its name."""
        name = f"q-{uuid.uuid4().hex[:10]}"
        with self.channel as channel:
            channel.queue_declare(name, durable=True, arguments=arguments)
            if exchange is not None:
                channel.queue_bind(name, exchange, routing_key)
        self._queues.append(name)
        return name

    def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        with self.channel as channel:
            channel.queue_bind(queue, exchange, routing_key)

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        with self.channel as channel:
            channel.queue_unbind(queue, exchange, routing_key)

    def delete_exchange(self, name: str) -> None:
        with self.channel as channel:
            channel.exchange_delete(name)

    def count(self, queue: str) -> int:
        with self.channel as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    def take_all(self, queue: str) -> list[Received]:
        """Take all messages out of a queue."""
        with self.channel as channel:
            return [
                Received(method.routing_key or "", body, properties)
                for method, properties, body in taken(channel, queue)
            ]

    def close(self) -> None:
        try:
            for exchange in self._exchanges:
                self.delete_exchange(exchange)
            for queue in self._queues:
                with self.channel as channel:
                    channel.queue_delete(queue)
            if self._connection is not None:
                self._connection.close()
        except AMQPError:
            # The test took the broker away; with it went what was declared.
            self._connection = None


def taken(channel: BlockingChannel, queue: str) -> Iterator[tuple[Any, BasicProperties, bytes]]:
    """Take messages out of a queue until there is none."""
    while (count := channel.queue_declare(queue, passive=True).method.message_count) > FEW:
        yield from _delivered(channel, queue, min(count, PREFETCHED))
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None or properties is None or body is None:
            return
        yield method, properties, body


def _delivered(channel: BlockingChannel, queue: str, count: int) -> list[tuple[Basic.Deliver, BasicProperties, bytes]]:
    """So many messages, or those that come in time."""
    channel.basic_qos(prefetch_count=count)
    messages = []
    for method, properties, body in channel.consume(queue, inactivity_timeout=DELIVERY_SECONDS):
        if method is None or properties is None or body is None:
            break
        messages.append((method, properties, body))
        if len(messages) == count:
            break
    # No others follow once these are acknowledged.
    channel.cancel()
    if messages:
        channel.basic_ack(messages[-1][0].delivery_tag, multiple=True)
    return messages
