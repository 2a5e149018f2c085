"""AMQP frames of a message, encoded by pika, for messages that the fast encoder does not handle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, cast

from pika import frame, spec
from pika.spec import BasicProperties

from .message import Body, InvalidMessageError, Message
from .validation import culprit, value_fault

#: The bytes of a frame around its payload: type, channel, size, end marker.
FRAME_OVERHEAD = 8


class EncodedMessage(NamedTuple):
    """A message as AMQP frames.

    :param data: the frames, joined.
    :param frames: the number of frames.
    :param body: the body as bytes.
    :param address: exchange, routing key, and whether it is mandatory.
    """

    data: bytes
    frames: int
    body: bytes
    address: tuple[str, str, bool]


def encode(message: Message, *, channel_number: int, frame_max: int, login: str) -> EncodedMessage:
    """Encode a message for a channel.

    :param frame_max: the largest frame in bytes, as negotiated with the broker.
    :param login: the user of the connection; the broker accepts no other ``user_id``.
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
        # pika raises a dozen kinds of errors for bad values, so each part is encoded alone to find the bad one. Its
        # error text is not used because it may show the value.
        found = culprit(message.exchange, message.routing_key, properties)
        raise InvalidMessageError(found or f"it cannot be encoded ({type(error).__name__})") from error
    fault = value_fault(message.exchange, message.routing_key, properties, header, login)
    if fault is not None:
        raise InvalidMessageError(fault)
    if len(header) > frame_max:
        raise InvalidMessageError(f"headers: {len(header)} bytes encoded, and the broker takes {frame_max} in a frame")
    bodies = list(_body_frames(channel_number, body, frame_max))
    address = (cast(str, message.exchange), cast(str, message.routing_key), bool(message.mandatory))
    return EncodedMessage(b"".join((method, header, *bodies)), 2 + len(bodies), body, address)


def _encode_body(body: Body) -> bytes:
    if isinstance(body, bytes):
        return body
    if not isinstance(body, (bytearray, memoryview, str)):
        raise InvalidMessageError(f"body: bytes or text expected, not {type(body).__name__}")
    try:
        return body.encode() if isinstance(body, str) else bytes(body)
    except UnicodeEncodeError as error:
        raise InvalidMessageError(f"body: text that UTF-8 cannot encode ({error.reason})") from error
    except Exception as error:
        raise InvalidMessageError(f"body: its bytes cannot be read ({type(error).__name__})") from error


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
