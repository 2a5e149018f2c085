"""RabbitMQSignal: a model says which message it stands for, and the rest is done for it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from pika import BasicProperties

from signalbus_core import PartialDeliveryError, SetupError, SignalBusMixin
from signalbus_core.rabbitmq import Message, Publisher, RabbitMQSignal
from signalbus_core.rabbitmq.signal import message_id
from tests.support.broker import Broker
from tests.support.stack import deepest_at_failpoints


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Shop:
    def __init__(self, database_url: str, broker: Broker) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.app.config["SIGNALBUS_RABBITMQ_URL"] = broker.url
        self.db = db = Database(self.app)
        self.broker = broker
        exchange = broker.exchange()
        self.queue = broker.queue(exchange)

        class Order(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
            signalbus_exchange = exchange
            signalbus_routing_key = "order.placed"
            id = db.Column(db.Integer, primary_key=True)

            def signalbus_message(self) -> Any:
                return shop.message_of(self)

        self.model: Any = Order
        self.message_of: Any = lambda signal: Message(None, None, f"order {signal.id}")
        shop = self
        with self.app.app_context():
            db.create_all()

    def send(self, *ids: int) -> list[Any]:
        self.db.session.add_all([self.model(id=number) for number in ids])
        self.db.session.commit()
        self.db.signalbus.flushmany()
        return self.broker.take_all(self.queue)

    def left(self) -> list[int]:
        with self.db.engine.connect() as connection:
            return list(connection.scalars(sa.text('SELECT id FROM "order" ORDER BY id')))


@pytest.fixture
def shop(database_url: str, broker: Broker) -> Iterator[Shop]:
    shop = Shop(database_url, broker)
    with shop.app.app_context():
        yield shop
        for publisher in shop.app.extensions.get("signalbus_publishers", []):
            publisher.close()
        shop.db.engine.dispose()


def test_what_the_message_leaves_open_is_filled_in(shop: Shop) -> None:
    started = int(time.time())
    [received] = shop.send(7)
    properties = received.properties
    assert (received.text, received.routing_key) == ("order 7", "order.placed")
    assert properties.delivery_mode == 2
    assert str(uuid.UUID(properties.message_id)) == properties.message_id
    assert properties.type == "Order"
    assert started <= properties.timestamp <= time.time()
    assert (properties.content_type, properties.content_encoding) == ("text/plain", "utf-8")


def test_bytes_are_declared_as_bytes(shop: Shop) -> None:
    shop.message_of = lambda _signal: Message(None, None, b"\x00")
    [received] = shop.send(1)
    assert received.properties.content_type == "application/octet-stream"


def test_what_the_message_sets_wins(shop: Shop) -> None:
    given = BasicProperties(
        content_type="application/json", delivery_mode=1, message_id="own", type="own", timestamp=5, headers={"a": 1}
    )
    shop.message_of = lambda _signal: Message(None, "own.key", b"{}", given)
    [received] = shop.send(1)
    assert received.routing_key == "own.key"
    assert received.properties == given


def test_a_message_may_name_another_exchange(shop: Shop) -> None:
    shop.message_of = lambda _signal: Message("", shop.queue, b"direct")
    assert [message.text for message in shop.send(1)] == ["direct"]


def test_signal_may_have_several_messages_each_with_id(shop: Shop) -> None:
    shop.message_of = lambda _signal: [Message(None, None, str(number)) for number in range(3)]
    received = shop.send(4)
    first, *others = [message.properties.message_id for message in received]
    assert str(uuid.UUID(first)) == first
    assert others == [f"{first}#2", f"{first}#3"]


def test_messages_are_mandatory_so_that_unroutable_signal_stays(shop: Shop) -> None:
    shop.message_of = lambda signal: Message(None if signal.id != 2 else "", "nobody", b"")
    with pytest.raises(PartialDeliveryError, match="NO_ROUTE"):
        shop.send(1, 2, 3)
    assert shop.left() == [2]


def test_the_id_is_the_same_on_every_resend(shop: Shop) -> None:
    shop.db.session.add(shop.model(id=9))
    shop.db.session.commit()
    for _ in range(2):
        shop.model.send_signalbus_messages([shop.db.session.get(shop.model, 9)])
    written = shop.db.session.get(shop.model, 9).signalbus_id
    assert [message.properties.message_id for message in shop.broker.take_all(shop.queue)] == [written, written]


def test_a_message_that_raises_keeps_its_signal_and_no_other(shop: Shop) -> None:
    def message_of(signal: Any) -> Message:
        if signal.id == 2:
            raise ValueError("no such customer")
        return Message(None, None, b"")

    shop.message_of = message_of
    with pytest.raises(PartialDeliveryError, match="ValueError: no such customer"):
        shop.send(1, 2, 3)
    assert shop.left() == [2]


@pytest.mark.parametrize("wrong", [None, "text", ["text"], {"a": 1}])
def test_anything_but_messages_keeps_the_signal(shop: Shop, wrong: Any) -> None:
    shop.message_of = lambda _signal: wrong
    with pytest.raises(PartialDeliveryError):
        shop.send(1)
    assert shop.left() == [1]


def test_a_model_without_a_message_says_what_is_missing(shop: Shop) -> None:
    del shop.model.signalbus_message
    with pytest.raises(PartialDeliveryError, match="must define signalbus_message"):
        shop.send(1)


def test_the_burst_count_suits_batches(shop: Shop) -> None:
    assert shop.model.signalbus_burst_count >= 100


def test_the_publisher_of_the_application_is_used(shop: Shop) -> None:
    with Publisher(shop.app) as publisher:
        shop.send(1)
        assert publisher.status().connected


def test_publisher_is_made_from_configuration_when_there_is_none(shop: Shop) -> None:
    assert "signalbus_rabbitmq" not in shop.app.extensions
    shop.send(1)
    assert isinstance(shop.app.extensions["signalbus_rabbitmq"], Publisher)


def test_without_a_url_the_error_says_what_to_set(shop: Shop) -> None:
    shop.app.config["SIGNALBUS_RABBITMQ_URL"] = None
    with pytest.raises(SetupError, match="SIGNALBUS_RABBITMQ_URL"):
        shop.send(1)
    assert shop.left() == [1]


@pytest.fixture
def models() -> Any:
    base = sa.orm.declarative_base()

    class Simple(base):  # type: ignore[misc,valid-type]
        __tablename__ = "simple"
        key = sa.Column(sa.Text, primary_key=True)

    class Double(base):  # type: ignore[misc,valid-type]
        __tablename__ = "double"
        __table_args__ = {"schema": "shop"}
        first = sa.Column(sa.Text, primary_key=True)
        second = sa.Column(sa.Text, primary_key=True)

    class Universal(base):  # type: ignore[misc,valid-type]
        __tablename__ = "universal"
        key = sa.Column(sa.Uuid, primary_key=True)

    return Simple, Double, Universal


def test_ids_are_unambiguous_whatever_the_keys_contain(models: Any) -> None:
    simple, double, _ = models
    pairs = [("a", "b:c"), ("a:b", "c"), ("a#2", "c"), ("a", "c#2"), ("a%3Ab", "c"), ("é", ""), ("", "é")]
    ids = [message_id(double(first=first, second=second), number) for first, second in pairs for number in (1, 2)]
    ids += [message_id(simple(key=key)) for key in ("a", "a#2", "a:1", "simple:a")]
    assert len(set(ids)) == len(ids)
    assert "shop.double:a:b%3Ac" in ids


def test_a_uuid_key_is_readable(models: Any) -> None:
    key = uuid.uuid4()
    assert message_id(models[2](key=key)) == f"universal:{key}"


def test_id_too_long_for_amqp_is_shortened_and_still_told_apart(models: Any) -> None:
    simple, _, _ = models
    ids = {message_id(simple(key="x" * length)) for length in (249, 300, 301, 70_000)}
    assert len(ids) == 4
    assert all(len(text.encode()) <= 255 for text in ids)
    assert len(message_id(simple(key="x" * 248))) == 255


def test_a_burst_is_published_at_most_eight_calls_deep(shop: Shop) -> None:
    with deepest_at_failpoints() as stacks:
        shop.send(*range(10))
    for place in ("publishing", "awaiting"):
        stack = stacks[place]
        burst = [name.rpartition(":")[2] for name in stack].index("send_burst") + 1
        assert burst <= 8, f"below send_burst: {stack}"
        assert len(stack) <= 12, f"below flushmany: {stack}"
