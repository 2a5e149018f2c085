"""A message, and its encoding into AMQP frames. Whatever is wrong with a message shows here, before a byte is sent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pika import frame, spec
from pika.spec import BasicProperties

from ..errors import SignalBusError

Body = bytes | bytearray | memoryview | str

#: The bytes of a frame around its payload: type, channel, size, end marker.
FRAME_OVERHEAD = 8

#: The properties of a message, as AMQP 0-9-1 names them.
PROPERTIES = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)


class InvalidMessageError(SignalBusError):
    """The message cannot be sent as it is; the text names the part that is wrong."""


@dataclass(frozen=True)
class Message:
    """A message for RabbitMQ.

    It is checked, all of it, before the first byte of its burst is sent.

    :param exchange: the name of the exchange, ``""`` for the default exchange. In a ``RabbitMQSignal``, None stands for
      the model's ``signalbus_exchange``.
    :param routing_key: at most 255 bytes. In a ``RabbitMQSignal``, None stands for the model's
      ``signalbus_routing_key``.
    :param body: text is sent as UTF-8.
    :param properties: sent as they are.
    :param mandatory: have the broker return the message when no queue takes it, instead of dropping it.
    """

    exchange: str | None = None
    routing_key: str | None = None
    body: Body = b""
    properties: BasicProperties | None = None
    mandatory: bool = True


@dataclass(frozen=True)
class EncodedMessage:
    """A message as AMQP frames.

    :param data: the frames, joined.
    :param frames: how many they are.
    :param body: the body as bytes.
    """

    data: bytes
    frames: int
    body: bytes


def encode(message: Message, *, channel_number: int, frame_max: int, login: str) -> EncodedMessage:
    """Encode a message for a channel.

    :param frame_max: the largest frame, in bytes, that was agreed on with the broker.
    :param login: the user of the connection; the broker takes no other ``user_id``.
    :raises InvalidMessageError: the message cannot be sent as it is.
    """
    body = _encode_body(message.body)
    properties = message.properties if message.properties is not None else BasicProperties()
    if not isinstance(properties, BasicProperties):
        raise InvalidMessageError(f"properties: pika.BasicProperties expected, not {type(properties).__name__}")
    try:
        method = frame.Method(channel_number, _publish_method(message)).marshal()
        header = frame.Header(channel_number, len(body), properties).marshal()
    except Exception as error:
        # The encoder answers to bad values with a dozen kinds of errors; which value it was, is found out by trying.
        raise InvalidMessageError(_culprit(message, properties) or f"{type(error).__name__}: {error}") from error
    _check_values(properties, login)
    if len(header) > frame_max:
        raise InvalidMessageError(
            f"properties: {len(header)} bytes encoded, and the broker takes {frame_max} in a frame"
        )
    bodies = list(_body_frames(channel_number, body, frame_max))
    return EncodedMessage(b"".join((method, header, *bodies)), 2 + len(bodies), body)


def _encode_body(body: Body) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError as error:
            raise InvalidMessageError(f"body: text that UTF-8 cannot encode ({error.reason})") from error
    raise InvalidMessageError(f"body: bytes or text expected, not {type(body).__name__}")


def _publish_method(message: Message) -> spec.Basic.Publish:
    return spec.Basic.Publish(
        exchange=message.exchange,
        routing_key=message.routing_key,
        mandatory=bool(message.mandatory),
    )


def _body_frames(channel_number: int, body: bytes, frame_max: int) -> Iterator[bytes]:
    size = frame_max - FRAME_OVERHEAD
    for number in range(math.ceil(len(body) / size)):
        yield frame.Body(channel_number, body[number * size : (number + 1) * size]).marshal()


def _check_values(properties: BasicProperties, login: str) -> None:
    """Values that the encoder takes and the broker does not: it would close the channel with others in flight."""
    if properties.delivery_mode not in (None, 1, 2):
        raise InvalidMessageError(f"delivery_mode: 1 or 2 expected, not {properties.delivery_mode!r}")
    expiration = properties.expiration
    if expiration is not None and not (expiration.isascii() and expiration.isdigit()):
        raise InvalidMessageError(f"expiration: milliseconds as a text of digits expected, not {expiration!r}")
    if properties.user_id is not None and properties.user_id != login:
        raise InvalidMessageError(f"user_id: must be the login {login!r}, not {properties.user_id!r}")


def _culprit(message: Message, properties: BasicProperties) -> str | None:
    """Name the part of a message that cannot be encoded."""
    for name in ("exchange", "routing_key"):
        value = getattr(message, name)
        fault = _fault(lambda value=value: spec.Basic.Publish(exchange=value, routing_key=value).encode())
        if fault is not None:
            return f"{name}: {_describe(value, fault)}"
    for name in PROPERTIES:
        value = getattr(properties, name)
        if value is None:
            continue
        fault = _fault(lambda name=name, value=value: BasicProperties(**{name: value}).encode())
        if fault is None:
            continue
        if name != "headers":
            return f"{name}: {_describe(value, fault)}"
        if not isinstance(value, dict):
            return f"headers: a dict expected, not {type(value).__name__}"
        for key, header in value.items():
            fault = _fault(lambda key=key, header=header: BasicProperties(headers={key: header}).encode())
            if fault is not None:
                return f"header {str(key)[:100]!r}: {_describe(header, fault)}"
    return None


def _fault(encode_part: Any) -> Exception | None:
    try:
        encode_part()
    except Exception as error:  # noqa: BLE001 - any of the encoder's errors means the same
        return error
    return None


def _describe(value: object, fault: Exception) -> str:
    """Say what is wrong with a value, without showing it: it may be somebody's data."""
    if isinstance(value, str):
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            return "text that UTF-8 cannot encode"
        if size > 255:
            return f"{size} bytes, and 255 is the most"
    if value is None:
        return "None, and a text is expected"
    return f"a value of type {type(value).__name__} that AMQP cannot encode ({type(fault).__name__})"
