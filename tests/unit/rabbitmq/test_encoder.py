"""The quick way of encoding says the same as pika's, byte for byte, or leaves the message to it."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pika import BasicProperties, DeliveryMode, frame, spec

from signalbus_core.rabbitmq import InvalidMessageError, Message
from signalbus_core.rabbitmq.amqp import encoder as encoder_module
from signalbus_core.rabbitmq.amqp.encoder import MOST_KEPT, Encoder
from signalbus_core.rabbitmq.amqp.frames import EncodedMessage, encode
from signalbus_core.rabbitmq.amqp.message import PROPERTIES
from tests.support.fuzzing import FACTOR

CHANNEL, FRAME_MAX, LOGIN = 3, 4096, "guest"


class Word(str):
    def encode(self, *_: Any) -> bytes:
        return b"something else"


class Colour(str, enum.Enum):
    RED = "red"


def of_pika(message: Message) -> EncodedMessage:
    """The frames as pika's own classes make them."""
    body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
    frames = [
        frame.Method(CHANNEL, spec.Basic.Publish(0, message.exchange, message.routing_key, message.mandatory)),
        frame.Header(CHANNEL, len(body), message.properties or BasicProperties()),
    ]
    size = FRAME_MAX - 8
    frames += [frame.Body(CHANNEL, body[start : start + size]) for start in range(0, len(body), size)]
    address = (message.exchange, message.routing_key, bool(message.mandatory))
    return EncodedMessage(b"".join(one.marshal() for one in frames), len(frames), body, address)


def fate(encode_it: Any) -> EncodedMessage | str:
    try:
        return encode_it()  # type: ignore[no-any-return]
    except InvalidMessageError as error:
        return str(error)


texts = st.text(max_size=20) | st.text(max_size=300) | st.sampled_from(["é" * 127, "é" * 128, "a" * 255, "a" * 256])
odd = st.sampled_from([5, 1.0, True, False, b"x", Word("a"), Colour.RED, "\ud800", "\0", Decimal(1), (), 2**64, -1])
header_values = texts | odd | st.none() | st.integers() | st.lists(st.text(max_size=3), max_size=2)
tables = st.dictionaries(st.sampled_from(["a", "CC", "x" * 256, Word("w")]) | st.text(max_size=5), header_values)
numbers = st.integers(0, 3) | st.integers(0, 2**64) | odd

usual = {
    **dict.fromkeys(PROPERTIES, st.none() | texts),
    "headers": st.none() | tables,
    "delivery_mode": st.sampled_from([None, 1, 2, DeliveryMode.Persistent]) | numbers,
    "priority": st.none() | numbers,
    "timestamp": st.none() | st.integers(0, 2**33) | numbers,
    "expiration": st.sampled_from([None, "60000", "-1", "x"]) | odd,
    "user_id": st.sampled_from([None, "guest", "other"]) | odd,
    "reply_to": st.sampled_from([None, "answers", "amq.rabbitmq.reply-to"]) | odd,
}
some_properties = st.none() | st.sampled_from([5, {}]) | st.fixed_dictionaries({}, optional=usual)
messages = st.builds(
    lambda exchange, routing_key, body, given, mandatory: Message(
        exchange, routing_key, body, BasicProperties(**given) if isinstance(given, dict) and given else given, mandatory
    ),
    texts | odd | st.none(),
    texts | odd | st.none(),
    st.binary(max_size=50) | texts | st.integers(4080, 9000).map(bytes) | st.just(bytearray(b"b")) | odd,
    some_properties,
    st.booleans() | odd,
)


@settings(max_examples=80 * FACTOR, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages, min_size=1, max_size=4))
def test_any_message_is_encoded_or_refused_as_slow_way_does_it(burst: list[Message]) -> None:
    encoder = Encoder(CHANNEL, FRAME_MAX, LOGIN)
    # Twice: the second time, what messages have in common is known.
    for message in [*burst, *burst]:
        expected = fate(lambda m=message: encode(m, channel_number=CHANNEL, frame_max=FRAME_MAX, login=LOGIN))
        assert fate(lambda m=message: encoder.encode(m)) == expected
        if isinstance(expected, EncodedMessage):
            assert expected == of_pika(message)


plain = {
    "content_type": "text/plain",
    "content_encoding": "utf-8",
    "headers": {"traceparent": "00-é", "": ""},
    "delivery_mode": 2,
    "priority": 9,
    "correlation_id": "c",
    "reply_to": "answers",
    "expiration": "60000",
    "message_id": "order:1",
    "timestamp": 1_700_000_000,
    "type": "OrderPlaced",
    "user_id": LOGIN,
    "app_id": "shop",
    "cluster_id": "",
}


@pytest.mark.parametrize("names", [(), ("headers",), PROPERTIES, *((name,) for name in PROPERTIES)])
@pytest.mark.parametrize("body", [b"", b"body", "text é", bytes(FRAME_MAX - 8), bytes(3 * FRAME_MAX)])
def test_usual_messages_take_the_quick_way(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], body: str | bytes
) -> None:
    monkeypatch.setattr(encoder_module, "encode", None)
    message = Message("orders", "order.placed", body, BasicProperties(**{name: plain[name] for name in names}))
    assert Encoder(CHANNEL, FRAME_MAX, LOGIN).encode(message) == of_pika(message)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("priority", 1, 1.0), ("delivery_mode", 2, 2.0), ("type", "a", Word("a")), ("timestamp", 1, 1.0)],
)
def test_equal_values_of_different_types_are_told_apart(name: str, first: Any, second: Any) -> None:
    encoder = Encoder(CHANNEL, FRAME_MAX, LOGIN)
    encoder.encode(Message("", "k", b"", BasicProperties(**{name: first})))
    message = Message("", "k", b"", BasicProperties(**{name: second}))
    expected = fate(lambda: encode(message, channel_number=CHANNEL, frame_max=FRAME_MAX, login=LOGIN))
    assert fate(lambda: encoder.encode(message)) == expected


def test_messages_to_one_address_are_mandatory_each_as_it_says() -> None:
    encoder = Encoder(CHANNEL, FRAME_MAX, LOGIN)
    for mandatory in (False, True, False):
        message = Message("orders", "order.placed", b"body", mandatory=mandatory)
        assert encoder.encode(message) == of_pika(message)


def test_what_is_kept_of_made_up_keys_and_properties_is_bounded() -> None:
    encoder = Encoder(CHANNEL, FRAME_MAX, LOGIN)
    for number in range(2 * MOST_KEPT):
        encoder.encode(Message("orders", f"key.{number}", b"", BasicProperties(type=f"type {number}")))
    assert len(encoder._publishes) <= MOST_KEPT
    assert len(encoder._shared) <= MOST_KEPT


def test_what_messages_have_in_common_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    def counted(kind: Any) -> None:
        original = kind.encode
        monkeypatch.setattr(kind, "encode", lambda self: (encoded.append(kind.__name__), original(self))[1])

    counted(spec.Basic.Publish)
    counted(BasicProperties)
    encoder = Encoder(CHANNEL, FRAME_MAX, LOGIN)
    for number in range(1000):
        properties = BasicProperties(type="Order", delivery_mode=2, message_id=str(number), timestamp=number)
        encoder.encode(Message("orders", f"key.{number % 2}", str(number), properties))
    assert encoded.count("Publish") == 2
    assert encoded.count("BasicProperties") == 4


def test_an_unusual_value_is_named() -> None:
    moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    with pytest.raises(InvalidMessageError, match=r"^timestamp: "):
        Encoder(CHANNEL, FRAME_MAX, LOGIN).encode(Message("", "k", b"", BasicProperties(timestamp=moment)))
