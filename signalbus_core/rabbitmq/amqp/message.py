"""A message, and the error of one that cannot be sent. Every message is checked before a byte of its burst is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pika.spec import BasicProperties

from ...errors import SignalBusError
from .validation import NUMBER_PROPERTIES, TEXT_PROPERTIES

Body = bytes | bytearray | memoryview | str

#: The properties of a message, as AMQP 0-9-1 names them.
PROPERTIES = (*TEXT_PROPERTIES, *NUMBER_PROPERTIES, "headers")


class InvalidMessageError(SignalBusError):
    """The message cannot be sent as it is; the text names the part that is wrong."""


@dataclass(frozen=True, init=False)
class Message:
    """A message for RabbitMQ.

    It is checked completely before the first byte of its burst is sent.

    :param exchange: the name of the exchange, ``""`` for the default exchange. In a ``RabbitMQSignal``, None means the
      model's ``signalbus_exchange``.
    :param routing_key: at most 255 bytes. In a ``RabbitMQSignal``, None means the model's ``signalbus_routing_key``.
    :param body: text is sent as UTF-8.
    :param properties: sent as they are.
    :param mandatory: the broker returns the message when it is unroutable, instead of dropping it.
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
        # The __init__ that dataclass generates for a frozen class takes three times as long.
        fields = vars(self)
        fields["exchange"] = exchange
        fields["routing_key"] = routing_key
        fields["body"] = body
        fields["properties"] = properties
        fields["mandatory"] = mandatory


def as_messages(made: Message | Iterable[Message]) -> list[Message]:
    """The messages of a signal as they are now: the next signal may change what they share.

    :raises TypeError: the argument is neither. None is refused too, because a forgotten ``return`` must lose nothing.
    """
    if isinstance(made, Message):
        return [_snapshot(made)]
    if made is None:
        raise TypeError("a Message or a sequence of them is expected, not None; [] means that there is nothing to send")
    listed = []
    for message in made:
        if not isinstance(message, Message):
            raise TypeError(f"a Message or a sequence of them is expected, not {type(message).__name__}")
        listed.append(_snapshot(message))
    return listed


def _snapshot(message: Message) -> Message:
    body, properties = message.body, message.properties
    if isinstance(body, (bytearray, memoryview)):
        body = bytes(body)
    if isinstance(properties, BasicProperties):
        properties = copied(properties)
        properties.headers = _copied_value(properties.headers)
    elif body is message.body:
        return message
    return Message(message.exchange, message.routing_key, body, properties, message.mandatory)


def copied(given: BasicProperties) -> BasicProperties:
    """The properties in an object of their own."""
    if type(given) is not BasicProperties:
        return BasicProperties(**{name: getattr(given, name) for name in PROPERTIES})
    properties = object.__new__(BasicProperties)
    vars(properties).update(vars(given))
    return properties


def _copied_value(value: Any) -> Any:
    if type(value) is dict:
        return {name: inner if type(inner) is str else _copied_value(inner) for name, inner in value.items()}
    return [_copied_value(inner) for inner in value] if type(value) is list else value
