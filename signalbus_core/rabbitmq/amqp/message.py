"""A message, and the error of one that cannot be sent. Every message is checked before a byte of its burst is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def as_messages(made: Message | Sequence[Message]) -> list[Message]:
    """The messages of a signal, as a list.

    :raises TypeError: the argument is neither. None is refused too, because a forgotten ``return`` must lose nothing.
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
