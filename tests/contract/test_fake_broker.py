"""The broker in memory answers as RabbitMQ does: each of these is true of both."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from pika import BasicProperties

from signalbus_core import OutcomeKind, PartialDeliveryError, PublishError
from signalbus_core.rabbitmq import BrokerConnectionError, Message
from tests.support.broker import Broker
from tests.support.proxy import FaultProxy

from .brokers import BrokerUnderTest, InMemory, RealBroker


@pytest.fixture(params=["RabbitMQ", "in memory"])
def under_test(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    if request.param == "in memory":
        in_memory = InMemory()
        with in_memory.publisher:
            yield in_memory
        return
    broker: Broker = request.getfixturevalue("broker")
    parts = urlsplit(broker.url)
    with FaultProxy(parts.hostname or "", parts.port or 5672) as proxy:
        real = RealBroker(broker, proxy)
        with real.publisher:
            yield real


def told(under_test: BrokerUnderTest, messages: list[Message]) -> list[tuple[str, str, bool]]:
    """Publish; of each message its kind of outcome, its cause, and whether the broker may have it."""
    try:
        under_test.publisher.publish_messages(messages)
    except PublishError as error:
        return [(outcome.kind.value, outcome.cause, outcome.may_be_stored) for outcome in error.outcomes]
    return [("acked", "acked", True)] * len(messages)


ACKED = ("acked", "acked", True)


def test_messages_arrive_as_they_were_given_and_in_order(under_test: BrokerUnderTest) -> None:
    destination = under_test.taking()
    properties = BasicProperties(
        content_type="text/plain", headers={"n": 1, "deep": {"list": [True, None, "ü"]}}, priority=3, message_id="a"
    )
    bodies = [b"", "ü".encode(), b"\x00\xff", b"x" * 300_000]
    assert told(under_test, [Message(*destination, body, properties) for body in bodies]) == [ACKED] * 4
    arrived = under_test.arrived(destination)
    assert [message.body for message in arrived] == bodies
    assert all(message.properties == properties for message in arrived)


def test_an_unroutable_message_is_returned_and_others_are_taken(under_test: BrokerUnderTest) -> None:
    good, bad = under_test.taking(), under_test.unroutable()
    messages = [Message(*good, b"1"), Message(*bad, b"2"), Message(*good, b"3")]
    assert told(under_test, messages) == [ACKED, ("refused", "returned", False), ACKED]
    assert [message.body for message in under_test.arrived(good)] == [b"1", b"3"]


def test_the_reason_of_a_returned_message_is_the_brokers(under_test: BrokerUnderTest) -> None:
    with pytest.raises(PublishError) as raised:
        under_test.publisher.publish_messages([Message(*under_test.unroutable(), b"")])
    assert [outcome.reason for outcome in raised.value.outcomes] == ["312 NO_ROUTE"]


@pytest.mark.parametrize("kind", ["unroutable", "nacking", "without_exchange"])
def test_what_a_destination_refuses_carries_its_name(under_test: BrokerUnderTest, kind: str) -> None:
    destination = getattr(under_test, kind)()
    with pytest.raises(PublishError) as raised:
        under_test.publisher.publish_messages([Message(*destination, b"")])
    named = f"exchange {destination.exchange!r}"
    if kind != "without_exchange":
        named += f", routing key {destination.routing_key!r}"
    assert [outcome.destination for outcome in raised.value.outcomes] == [named]


def test_unroutable_message_not_mandatory_counts_as_taken(under_test: BrokerUnderTest) -> None:
    assert told(under_test, [Message(*under_test.unroutable(), b"", mandatory=False)]) == [ACKED]


def test_a_message_that_no_queue_has_room_for_is_nacked(under_test: BrokerUnderTest) -> None:
    good, full = under_test.taking(), under_test.nacking()
    assert told(under_test, [Message(*full, b"1"), Message(*good, b"2")]) == [("refused", "nacked", False), ACKED]


def test_a_message_for_an_exchange_that_is_missing_is_refused(under_test: BrokerUnderTest) -> None:
    good, missing = under_test.taking(), under_test.without_exchange()
    for _ in range(2):
        found = told(under_test, [Message(*missing, b"1"), Message(*good, b"2")])
        assert found == [("refused", "refused", False), ACKED]


@pytest.mark.parametrize(
    "bad",
    [
        Message("orders", "k" * 256, b""),
        Message("orders", "k", b"", BasicProperties(headers={"object": object()})),
        Message("orders", "k", b"", BasicProperties(expiration="soon")),
        Message("orders", "k", b"", BasicProperties(user_id="somebody-else")),
    ],
    ids=["routing key too long", "header of no AMQP type", "expiration of letters", "another login"],
)
def test_unsendable_message_is_invalid_and_others_are_taken(under_test: BrokerUnderTest, bad: Message) -> None:
    good = under_test.taking()
    assert told(under_test, [bad, Message(*good, b"1")]) == [("invalid", "invalid", False), ACKED]
    assert [message.body for message in under_test.arrived(good)] == [b"1"]


def test_headers_longer_than_frame_are_found_invalid_alone(under_test: BrokerUnderTest) -> None:
    headers = {f"h{number}": "x" * 60_000 for number in range(3)}
    message = Message(*under_test.taking(), b"", BasicProperties(headers=headers))
    [(kind, _, _)] = told(under_test, [message])
    assert kind == "invalid"


def test_without_answer_message_is_unknown_and_may_have_arrived(under_test: BrokerUnderTest) -> None:
    destination = under_test.taking()
    assert told(under_test, [Message(*destination, b"0")]) == [ACKED]
    under_test.stay_silent()
    assert told(under_test, [Message(*destination, b"1")]) == [("unknown", "unknown", True)]
    under_test.recover()
    assert told(under_test, [Message(*destination, b"1")]) == [ACKED]
    assert [message.body for message in under_test.arrived(destination)] == [b"0", b"1", b"1"]


def test_with_the_broker_away_nothing_is_sent_and_the_next_publish_finds_it_again(under_test: BrokerUnderTest) -> None:
    destination = under_test.taking()
    under_test.go_away()
    assert told(under_test, [Message(*destination, b"1")]) == [("unknown", "unknown", False)]
    assert not under_test.publisher.status().connected
    with pytest.raises(BrokerConnectionError):
        under_test.publisher.connect()
    under_test.recover()
    assert told(under_test, [Message(*destination, b"2")]) == [ACKED]
    assert under_test.publisher.status().connected
    assert [message.body for message in under_test.arrived(destination)] == [b"2"]


def test_of_a_signal_with_several_messages_worst_outcome_counts(under_test: BrokerUnderTest) -> None:
    good, bad = under_test.taking(), under_test.unroutable()
    of = {"a": [Message(*good, b"a")], "b": [Message(*good, b"b"), Message(*bad, b"b")], "c": []}
    with pytest.raises(PartialDeliveryError) as raised:
        under_test.publisher.publish_signals(["a", "b", "c"], lambda name: of[name])
    assert raised.value.delivered == ["a", "c"]
    assert [(name, outcome.kind) for name, outcome in raised.value.failed] == [("b", OutcomeKind.REFUSED)]
