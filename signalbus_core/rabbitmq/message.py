"""A message, and its encoding into AMQP frames. Whatever is wrong with a message shows here, before a byte is sent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pika import frame, spec
from pika.spec import BasicProperties

from ..errors import SignalBusError
from .faults import NUMBER_PROPERTIES, TEXT_PROPERTIES, culprit, value_fault

Body = bytes | bytearray | memoryview | str

#: The bytes of a frame around its payload: type, channel, size, end marker.
FRAME_OVERHEAD = 8

#: The properties of a message, as AMQP 0-9-1 names them.
PROPERTIES = (*TEXT_PROPERTIES, *NUMBER_PROPERTIES, "headers")


class InvalidMessageError(SignalBusError):
    """The message cannot be sent as it is; the text names the part that is wrong."""


@dataclass(frozen=True, init=False)
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

    def __init__(
        self,
        exchange: str | None = None,
        routing_key: str | None = None,
        body: Body = b"",
        properties: BasicProperties | None = None,
        mandatory: bool = True,
    ) -> None:
        # What a dataclass makes for a frozen class takes three times as long, for each message.
        fields = vars(self)
        fields["exchange"] = exchange
        fields["routing_key"] = routing_key
        fields["body"] = body
        fields["properties"] = properties
        fields["mandatory"] = mandatory


def as_messages(made: Message | Sequence[Message]) -> list[Message]:
    """The messages that a signal was made into, as a list.

    :raises TypeError: they are something else. None, too: a ``return`` that was forgotten must lose nothing.
    """
    if isinstance(made, Message):
        return [made]
    if made is None:
        raise TypeError("a Message or a sequence of them is expected, not None; [] means that there is nothing to send")
    listed = made if type(made) is list else list(made)
    for message in listed:
        if not isinstance(message, Message):
            raise TypeError(f"a Message or a sequence of them is expected, not {type(message).__name__}")
    return listed


class EncodedMessage(NamedTuple):
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
        # Its own text may show the value.
        found = culprit(message.exchange, message.routing_key, properties)
        raise InvalidMessageError(found or f"it cannot be encoded ({type(error).__name__})") from error
    fault = value_fault(message.exchange, message.routing_key, properties, header, login)
    if fault is not None:
        raise InvalidMessageError(fault)
    if len(header) > frame_max:
        raise InvalidMessageError(f"headers: {len(header)} bytes encoded, and the broker takes {frame_max} in a frame")
    bodies = list(_body_frames(channel_number, body, frame_max))
    return EncodedMessage(b"".join((method, header, *bodies)), 2 + len(bodies), body)


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
