"""Messages are checked, all of them, before a byte is sent; and what is wrong is named."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from pika import BasicProperties, DeliveryMode

from signalbus_core.rabbitmq import InvalidMessageError, Message
from signalbus_core.rabbitmq.amqp.frames import EncodedMessage, encode


class Colour(enum.Enum):
    RED = "red"


def encoded(message: Message, frame_max: int = 131072) -> EncodedMessage:
    return encode(message, channel_number=1, frame_max=frame_max, login="guest")


def message(**changes: Any) -> Message:
    return Message(**({"exchange": "x", "routing_key": "k", "body": b"b"} | changes))


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        message().body = b"other"  # type: ignore[misc]


def test_messages_are_mandatory_unless_told_otherwise() -> None:
    assert message().mandatory


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"x", b"x"), (bytearray(b"x"), b"x"), (memoryview(b"x"), b"x"), ("ü", "ü".encode()), (b"", b""), ("", b"")],
)
def test_bodies_are_bytes_or_text(body: Any, expected: bytes) -> None:
    assert encoded(message(body=body)).body == expected


@pytest.mark.parametrize("body", [None, 5, {"a": 1}, ["a"], "\ud800"])
def test_other_bodies_are_invalid(body: Any) -> None:
    with pytest.raises(InvalidMessageError, match="body"):
        encoded(message(body=body))


@pytest.mark.parametrize("part", ["exchange", "routing_key"])
@pytest.mark.parametrize("value", ["a" * 256, "é" * 128, None, 5, uuid.uuid4(), "\ud800"])
def test_exchange_and_routing_key_are_text_of_at_most_255_bytes(part: str, value: Any) -> None:
    with pytest.raises(InvalidMessageError, match=f"^{part}: "):
        encoded(message(**{part: value}))


@pytest.mark.parametrize("value", ["a" * 255, "é" * 127, ""])
def test_255_bytes_are_allowed(value: str) -> None:
    encoded(message(routing_key=value))


@pytest.mark.parametrize(
    "value",
    [
        "text",
        b"bytes",
        5,
        -(2**63),
        2**63 - 1,
        True,
        None,
        decimal.Decimal("1.5"),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
        ["a", 1, {"b": None}],
        {"nested": {"deeper": [1, 2]}},
    ],
)
def test_header_values_that_amqp_has_can_be_sent(value: Any) -> None:
    encoded(message(properties=BasicProperties(headers={"good": value})))


@pytest.mark.parametrize(
    "value",
    [1.5, 2**63, uuid.uuid4(), Colour.RED, (1,), {1}, datetime.date(2026, 1, 2), bytearray(b"x"), "\ud800", {1: 2}],
)
def test_other_header_values_are_invalid_and_the_header_is_named(value: Any) -> None:
    headers = {"fine": 1, "wrong-one": value}
    with pytest.raises(InvalidMessageError, match="wrong-one"):
        encoded(message(properties=BasicProperties(headers=headers)))


@pytest.mark.parametrize("headers", ["text", [("a", 1)]])
def test_headers_are_a_dict(headers: Any) -> None:
    with pytest.raises(InvalidMessageError, match="headers: a dict"):
        encoded(message(properties=BasicProperties(headers=headers)))


def test_headers_that_contain_themselves_are_invalid() -> None:
    headers: dict[str, Any] = {}
    headers["self"] = headers
    with pytest.raises(InvalidMessageError):
        encoded(message(properties=BasicProperties(headers=headers)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("message_id", 5),
        ("message_id", uuid.uuid4()),
        ("message_id", "x" * 256),
        ("correlation_id", 5),
        ("type", "x" * 256),
        ("expiration", 1000),
        ("expiration", "abc"),
        ("expiration", "-1"),
        ("priority", 256),
        ("priority", -1),
        ("priority", "5"),
        ("delivery_mode", 3),
        ("delivery_mode", 300),
        ("timestamp", datetime.datetime.now(datetime.timezone.utc)),
        ("timestamp", -1),
        ("user_id", "somebody-else"),
    ],
)
def test_wrong_properties_are_invalid_and_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidMessageError, match=f"^{name}: "):
        encoded(message(properties=BasicProperties(**{name: value})))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delivery_mode", DeliveryMode.Persistent),
        ("priority", 0),
        ("expiration", "0"),
        ("user_id", "guest"),
        ("timestamp", 0),
    ],
)
def test_right_properties_can_be_sent(name: str, value: Any) -> None:
    encoded(message(properties=BasicProperties(**{name: value})))


def test_properties_of_another_type_are_invalid() -> None:
    with pytest.raises(InvalidMessageError, match="BasicProperties"):
        encoded(message(properties={"content_type": "text/plain"}))


def test_headers_beyond_the_largest_frame_are_invalid() -> None:
    with pytest.raises(InvalidMessageError, match="in a frame"):
        encoded(message(properties=BasicProperties(headers={"h": "x" * 5000})), frame_max=4096)


def test_a_long_body_is_cut_into_frames() -> None:
    short, long = encoded(message(body=b"x" * 10), 4096), encoded(message(body=b"x" * 10_000), 4096)
    assert (short.frames, long.frames) == (3, 5)
    assert encoded(message(body=b"")).frames == 2


def test_an_error_does_not_show_the_value_that_caused_it() -> None:
    with pytest.raises(InvalidMessageError) as raised:
        encoded(message(routing_key="secret-" * 50))
    assert "secret" not in str(raised.value)
