"""Two brokers, the real one and the one in memory, with the same things to be done to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple
from urllib.parse import urlsplit

from pika import BasicProperties

from signalbus_core.rabbitmq import Publisher
from signalbus_core.testing import FakeBroker, FakePublisher
from tests.support.broker import Broker
from tests.support.proxy import FaultProxy


class Destination(NamedTuple):
    exchange: str
    routing_key: str


class Arrived(NamedTuple):
    body: bytes
    properties: BasicProperties


class BrokerUnderTest(ABC):
    """A publisher, and the destinations that behave as their names say."""

    publisher: Publisher

    @abstractmethod
    def taking(self) -> Destination:
        """A destination that takes every message."""

    @abstractmethod
    def unroutable(self) -> Destination: ...

    @abstractmethod
    def nacking(self) -> Destination: ...

    @abstractmethod
    def without_exchange(self) -> Destination: ...

    @abstractmethod
    def arrived(self, destination: Destination) -> list[Arrived]: ...

    @abstractmethod
    def stay_silent(self) -> None: ...

    @abstractmethod
    def go_away(self) -> None: ...

    @abstractmethod
    def recover(self) -> None: ...


class RealBroker(BrokerUnderTest):
    def __init__(self, broker: Broker, proxy: FaultProxy) -> None:
        self._broker, self._proxy = broker, proxy
        port = urlsplit(broker.url).port
        self.publisher = Publisher(url=broker.url.replace(f":{port}/", f":{proxy.port}/"), timeout_seconds=2)
        self._exchange = broker.exchange()
        self._queues: dict[Destination, str] = {}

    def _bound(self, routing_key: str, **arguments: object) -> Destination:
        destination = Destination(self._exchange, routing_key)
        self._queues[destination] = self._broker.queue(self._exchange, routing_key, **arguments)
        return destination

    def taking(self) -> Destination:
        return self._bound("taken")

    def unroutable(self) -> Destination:
        return Destination(self._exchange, "nobody")

    def nacking(self) -> Destination:
        destination = self._bound("full", **{"x-max-length": 1, "x-overflow": "reject-publish"})
        channel = self._broker.channel
        # RabbitMQ takes a few more than the limit before it refuses.
        for _ in range(100):
            channel.basic_publish(*destination, b"filler")
        return destination

    def without_exchange(self) -> Destination:
        return Destination("x-missing", "any")

    def arrived(self, destination: Destination) -> list[Arrived]:
        messages = self._broker.take_all(self._queues[destination])
        return [Arrived(message.body, message.properties) for message in messages]

    def stay_silent(self) -> None:
        self._proxy.stall("to_client")

    def go_away(self) -> None:
        self._proxy.refuse()

    def recover(self) -> None:
        self._proxy.forward()


class InMemory(BrokerUnderTest):
    def __init__(self) -> None:
        self.fake = FakeBroker()
        self.publisher = FakePublisher(broker=self.fake)

    def taking(self) -> Destination:
        return Destination("orders", "taken")

    def unroutable(self) -> Destination:
        self.fake.return_unroutable(exchange="orders", routing_key="nobody")
        return Destination("orders", "nobody")

    def nacking(self) -> Destination:
        self.fake.nack(exchange="orders", routing_key="full")
        return Destination("orders", "full")

    def without_exchange(self) -> Destination:
        self.fake.lose_exchange("x-missing")
        return Destination("x-missing", "any")

    def arrived(self, destination: Destination) -> list[Arrived]:
        return [Arrived(message.body, message.properties) for message in self.fake.messages_to(*destination)]

    def stay_silent(self) -> None:
        self.fake.stay_silent(stored=True)

    def go_away(self) -> None:
        self.fake.go_away()

    def recover(self) -> None:
        self.fake.recover()
