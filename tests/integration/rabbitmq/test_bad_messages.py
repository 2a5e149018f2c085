"""Bad messages on a real RabbitMQ: each is invalid and its fault is named; its neighbours arrive as if alone.

Whatever is sent arrives equal to what was given. A value that would arrive as something else is invalid.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pika import BasicProperties

from signalbus_core import Outcome, OutcomeKind, PartialDeliveryError, PublishError
from signalbus_core.rabbitmq import Message, Publisher
from tests.support.broker import Broker, Received
from tests.support.rabbitmq import PrivateRabbitMQ

TEXT_PROPERTIES = [
    "message_id",
    "type",
    "correlation_id",
    "reply_to",
    "content_type",
    "content_encoding",
    "app_id",
    "user_id",
    "cluster_id",
    "expiration",
]

UTC = datetime.timezone.utc
TOKYO = datetime.timezone(datetime.timedelta(hours=9))


class Colour(enum.Enum):
    RED = "red"


class Word(str):
    """A text of a type of its own."""


class Place:
    """A topic exchange with one queue, and a publisher for it."""

    def __init__(self, url: str) -> None:
        self.broker = Broker(url)
        self.publisher = Publisher(url=url)
        self.exchange = self.broker.exchange()
        self.queue = self.broker.queue(self.exchange)

    def message(self, body: Any = b"", *, exchange: Any = "", routing_key: Any = "key", **properties: Any) -> Message:
        return Message(self.exchange if exchange == "" else exchange, routing_key, body, BasicProperties(**properties))

    def publish(self, *messages: Message) -> list[Outcome]:
        try:
            self.publisher.publish_messages(messages)
        except PublishError as error:
            return list(error.outcomes)
        return [Outcome(OutcomeKind.ACKED)] * len(messages)

    def taken(self) -> list[Received]:
        return self.broker.take_all(self.queue)

    def refuses(self, bad: Message) -> str:
        """Publish a bad message between good ones; return what is said of it."""
        before, outcome, after = self.publish(self.message(b"before"), bad, self.message(b"after"))
        assert (before.cause, outcome.cause, after.cause) == ("acked", "invalid", "acked")
        assert [message.body for message in self.taken()] == [b"before", b"after"]
        return outcome.reason

    def delivers(self, message: Message) -> Received:
        self.publisher.publish_messages([message])
        [received] = self.taken()
        return received

    def close(self) -> None:
        self.publisher.close()
        self.broker.close()


@pytest.fixture(scope="module")
def place(amqp_url: str) -> Iterator[Place]:
    place = Place(amqp_url)
    yield place
    place.close()


def assert_hidden(value: Any, reason: str) -> None:
    """Short numbers and None are nobody's data, and appear in any text."""
    if value is not None and len(str(value)) > 2:
        assert str(value)[:40] not in reason


# Texts

NO_TEXTS = {
    "int": 123456,
    "uuid": uuid.uuid4(),
    "bytes": b"secret",
    "lone surrogate": "secret\ud800",
    "256 bytes": "secret" + "s" * 250,
    "256 bytes of two each": "é" * 128,
}


@pytest.mark.parametrize("value", NO_TEXTS.values(), ids=NO_TEXTS)
@pytest.mark.parametrize("part", ["exchange", "routing_key", *TEXT_PROPERTIES])
def test_what_is_no_text_of_255_bytes_is_invalid(place: Place, part: str, value: Any) -> None:
    reason = place.refuses(place.message(**{part: value}))
    assert reason.startswith(f"{part}: ")
    assert_hidden(value, reason)


@pytest.mark.parametrize("part", ["exchange", "routing_key"])
def test_exchange_and_routing_key_may_not_be_left_out(place: Place, part: str) -> None:
    assert place.refuses(place.message(**{part: None})) == f"{part}: None, and a text is expected"


@pytest.mark.parametrize("text", ["a" * 255, "é" * 127 + "a", "", "a\0b", Word("word")], ids=range(5))
@pytest.mark.parametrize(
    "part", ["routing_key", *(part for part in TEXT_PROPERTIES if part not in ("user_id", "expiration"))]
)
def test_texts_of_at_most_255_bytes_arrive_as_they_are(place: Place, part: str, text: str) -> None:
    received = place.delivers(place.message(**{part: text}))
    assert (received.routing_key if part == "routing_key" else getattr(received.properties, part)) == text


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127 + "a"], ids=["ascii", "two bytes each"])
def test_an_exchange_may_have_a_name_of_255_bytes(place: Place, name: str) -> None:
    with place.broker.channel as channel:
        channel.exchange_declare(name, exchange_type="fanout", auto_delete=True)
        channel.queue_bind(place.queue, name)
        assert place.delivers(place.message(b"found", exchange=name)).body == b"found"
        channel.queue_unbind(place.queue, name)


# Numbers and texts with a meaning

WRONG_PROPERTIES = [
    *(("priority", value) for value in (256, -1, "5", 1.5)),
    *(("delivery_mode", value) for value in (0, 3, 300, "2")),
    *(("timestamp", value) for value in (-1, 2**64, 1.5, "1700000000", datetime.datetime(2026, 1, 2, tzinfo=UTC))),
    *(("expiration", value) for value in ("abc", "-1", 1000, "", "5 ", "٣", "1.5", "315360000001", "9" * 30)),
    *(("user_id", value) for value in ("somebody-else", "")),
    ("reply_to", "amq.rabbitmq.reply-to"),
    *(("headers", value) for value in ("secret", [("secret", 1)], [], 0)),
]


@pytest.mark.parametrize(("name", "value"), WRONG_PROPERTIES, ids=lambda value: repr(value)[:30])
def test_wrong_properties_are_invalid(place: Place, name: str, value: Any) -> None:
    reason = place.refuses(place.message(**{name: value}))
    assert reason.startswith(f"{name}: ")
    if name != "reply_to":
        assert_hidden(value, reason)


RIGHT_PROPERTIES = [
    *(("priority", value) for value in (0, 255)),
    *(("delivery_mode", value) for value in (1, 2)),
    *(("timestamp", value) for value in (0, 1_700_000_000, 2**64 - 1)),
    *(("expiration", value) for value in ("60000", "000000060000", "315360000000")),
    ("user_id", "guest"),
    ("headers", {}),
]


@pytest.mark.parametrize(("name", "value"), RIGHT_PROPERTIES, ids=lambda value: repr(value)[:30])
def test_right_properties_arrive_as_they_are(place: Place, name: str, value: Any) -> None:
    if name == "user_id":
        value = place.publisher.location.nodes[0].login
    arrived = getattr(place.delivers(place.message(**{name: value})).properties, name)
    if name == "expiration":
        # RabbitMQ 4 reads the number, and writes it without leading zeros.
        arrived, value = int(arrived), int(value)
    assert arrived == value


def test_an_expiration_of_nothing_is_taken(place: Place) -> None:
    # Such a message is delivered at once, or not at all.
    assert place.publish(place.message(expiration="0"))[0].kind is OutcomeKind.ACKED
    place.taken()


# Headers

GOOD_HEADERS: dict[str, Any] = {
    "text": "ü\0",
    "empty text": "",
    "long text": "x" * 70_000,
    "text of its own type": Word("word"),
    "bytes": b"\xff\x00",
    "bytes that look like text": b"text",
    "true": True,
    "false": False,
    "int": -5,
    "int of 32 bits": 2**31 - 1,
    "int of more": 2**31,
    "largest int": 2**63 - 1,
    "smallest int": -(2**63),
    "decimal": decimal.Decimal("-1.50"),
    "whole decimal": decimal.Decimal("1E+3"),
    "smallest decimal": decimal.Decimal("1E-255"),
    "largest decimal": decimal.Decimal(2**31 - 1),
    "time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "time elsewhere": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=TOKYO),
    "none": None,
    "list": ["a", 1, None, True, b"x", [], {}],
    "table": {"deep": {"deeper": [1, {"deepest": decimal.Decimal("0.1")}]}, "": 0},
    "x-death": [{"count": 1}],
    "CC": ["another.key"],
}


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same kind: 1 is not True, nor b"a" a text."""
    if isinstance(other, dict):
        return isinstance(one, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(other, list):
        return isinstance(one, list) and len(one) == len(other) and all(map(same, one, other))
    kind = str if isinstance(other, str) else type(other)
    return isinstance(one, kind) and isinstance(one, bool) == isinstance(other, bool) and one == other


@pytest.mark.parametrize("name", GOOD_HEADERS)
def test_header_values_that_can_be_sent_arrive_as_they_are(place: Place, name: str) -> None:
    received = place.delivers(place.message(headers={name: GOOD_HEADERS[name]}))
    assert same(received.properties.headers, {name: GOOD_HEADERS[name]})


@pytest.mark.parametrize("name", ["h" * 255, "é" * 127 + "a", "", "a\0b"], ids=range(4))
def test_header_names_of_at_most_255_bytes_arrive_as_they_are(place: Place, name: str) -> None:
    assert place.delivers(place.message(headers={name: 1})).properties.headers == {name: 1}


def recursive_table() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["itself"] = table
    return table


def recursive_list() -> list[Any]:
    values: list[Any] = ["secret"]
    values.append(values)
    return values


BAD_HEADERS: dict[str, Any] = {
    "uuid": uuid.uuid4(),
    "set": {"secret"},
    "tuple": ("secret", 1),
    "enum": Colour.RED,
    "bytearray": bytearray(b"secret"),
    "object": object(),
    # pika reads a double as a whole number, so a float would lose its fraction at the consumer.
    "float": 1.125,
    "whole float": 1000.0,
    "int beyond 64 bits": 2**63,
    "negative int beyond 64 bits": -(2**63) - 1,
    "decimal NaN": decimal.Decimal("NaN"),
    "decimal infinity": decimal.Decimal("-Infinity"),
    "decimal of more than 32 bits": decimal.Decimal(2**31),
    "decimal with more digits than 32 bits": decimal.Decimal("1.2345678901"),
    "decimal that would be rounded": decimal.Decimal("1." + "0" * 30 + "1"),
    "decimal of too many places": decimal.Decimal("1E-256"),
    "date": datetime.date(2026, 1, 2),
    "time without a zone": datetime.datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - it is what is wrong here
    "time with microseconds": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "time before 1970": datetime.datetime(1969, 12, 31, tzinfo=UTC),
    "time span": datetime.timedelta(seconds=1234),
    "lone surrogate": "secret\ud800",
    "lone surrogate deep within": {"a": [{"b": "secret\ud800"}]},
    "time without a zone deep within": {"a": [datetime.datetime(2026, 1, 2)]},  # noqa: DTZ001 - as above
    "tuple deep within": {"a": [("secret",)]},
    "int as a name within": {12345: "secret"},
    "bytes as a name within": {b"secret": 1},
    "name too long within": {"secret" * 50: 1},
    "table that contains itself": recursive_table(),
    "list that contains itself": recursive_list(),
    # RabbitMQ takes these for further routing keys, and closes the channel when they are no lists.
    "CC": "secret",
    "BCC": {"secret": 1},
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_header_values_that_would_not_arrive_are_invalid_and_the_header_is_named(place: Place, name: str) -> None:
    value = BAD_HEADERS[name]
    reason = place.refuses(place.message(headers={"fine": 1, name: value, "fine too": "x"}))
    assert reason.startswith(f"header {name!r}: ")
    assert "secret" not in reason
    assert_hidden(value, reason.removeprefix(f"header {name!r}"))


@pytest.mark.parametrize("name", [12345, b"bytes", None, "n" * 256, "é" * 128, "lone \ud800"], ids=range(6))
def test_header_names_that_amqp_has_not_are_invalid(place: Place, name: Any) -> None:
    reason = place.refuses(place.message(headers={"fine": 1, name: "secret"}))
    assert reason.startswith("header")
    assert "secret" not in reason


def test_rounding_that_app_asked_for_does_not_reach_its_headers(place: Place) -> None:
    with decimal.localcontext() as context:
        context.prec = 2
        assert "'price'" in place.refuses(place.message(headers={"price": decimal.Decimal("1.25")}))


def test_headers_larger_than_a_frame_are_invalid(place: Place) -> None:
    reason = place.refuses(place.message(headers={"h": "secret" * 50_000}))
    assert reason.startswith("headers: ")
    assert "secret" not in reason


def test_headers_that_just_fill_a_frame_arrive(place: Place) -> None:
    # The frame's own 8 bytes, the content header's 14, and 11 for the table and its one field with an empty name.
    headers = {"": "x" * (131_072 - 8 - 14 - 10)}
    assert place.delivers(place.message(headers=headers)).properties.headers == headers
    headers[""] += "x"
    assert place.refuses(place.message(headers=headers)).startswith("headers: ")


# Bodies


@pytest.mark.parametrize(
    "body",
    [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff"), memoryview(b"a.b.")[::2], "ü", Word("w"), b"", ""],
    ids=lambda body: type(body).__name__,
)
def test_bodies_of_bytes_or_text_arrive_as_they_are(place: Place, body: Any) -> None:
    assert place.delivers(place.message(body)).body == (body.encode() if isinstance(body, str) else bytes(body))


def released() -> memoryview:
    view = memoryview(b"secret")
    view.release()
    return view


@pytest.mark.parametrize(
    "body",
    [None, {"secret": 1}, ["secret"], 12345, 1.5, Colour.RED, "secret\ud800", released()],
    ids=lambda body: type(body).__name__,
)
def test_other_bodies_are_invalid(place: Place, body: Any) -> None:
    reason = place.refuses(place.message(body))
    assert reason.startswith("body: ")
    assert "secret" not in reason


def test_a_body_larger_than_the_broker_takes_is_invalid_and_repeats_its_neighbours_once_at_most(
    private_rabbitmq: PrivateRabbitMQ,
) -> None:
    place = Place(private_rabbitmq.url)
    large = place.message(b"x" * 100_001)
    # The broker closes the channel, and leaves those in flight without an answer; they go again.
    before, outcome, after = place.publish(place.message(b"before"), large, place.message(b"after"))
    assert (before.cause, outcome.cause, after.cause) == ("acked", "invalid", "acked")
    assert outcome.reason.startswith("406 PRECONDITION_FAILED - message size 100001 is larger than")
    arrived = [message.body for message in place.taken()]
    assert set(arrived) == {b"before", b"after"}
    assert arrived.count(b"after") == 1
    # From now on it is known.
    for _ in range(3):
        assert "100001" in place.refuses(large)
    place.delivers(place.message(b"x" * 100_000))
    place.close()


# Signals


def test_bad_messages_keep_their_own_signals_only(place: Place) -> None:
    def message_of(signal: str) -> list[Message]:
        if signal == "none":
            return []
        if signal == "many":
            return [place.message(str(number)) for number in range(1000)]
        return [place.message(b"good half"), place.message(b"bad half", headers={"h": {"secret"}})]

    with pytest.raises(PartialDeliveryError) as raised:
        place.publisher.publish_signals(["none", "bad", "many"], message_of)

    assert raised.value.delivered == ["none", "many"]
    [(signal, outcome)] = raised.value.failed
    assert (signal, outcome.kind) == ("bad", OutcomeKind.INVALID)
    assert "header 'h'" in outcome.reason
    assert "secret" not in outcome.reason
    assert [message.text for message in place.taken()] == [str(number) for number in range(1000)]
