"""A ready-made signal model: the model defines its message; this mixin fills in the rest and publishes it.

The id of a message is the same on every resend.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import current_app
from pika.spec import BasicProperties
from sqlalchemy.orm import Mapped, declared_attr, has_inherited_table

from ..schema.signal_id import signal_id_column
from .amqp.message import PROPERTIES, Message, as_messages
from .message_id import BurstDatabase, database_of, message_id, written_at
from .publisher import Publisher

_creating = threading.Lock()


class RabbitMQSignal:
    """Mixin that makes a model a signal model for RabbitMQ; put it before ``db.Model``.

    ::

        class OrderPlaced(RabbitMQSignal, db.Model):
            signalbus_exchange = "orders"
            signalbus_routing_key = "order.placed"

            id = db.Column(db.BigInteger, primary_key=True)
            order_id = db.Column(db.BigInteger, nullable=False)

            def signalbus_message(self) -> Message:
                return Message(body=json.dumps({"order_id": self.order_id}))

    Messages are persistent and mandatory. Properties that the message does not set are filled in: ``message_id`` (the
    same on every resend, so that consumers can drop duplicates), ``type`` (the class name), ``timestamp`` (when the
    signal was written, where the model records it, else of sending) and ``content_type`` (``text/plain`` for text, else
    ``application/octet-stream``).

    The mixin adds a column ``signalbus_id``, a UUID made by the database, which is the id of the message. A model may
    define it itself, as a UUID, or opt out by ``signalbus_id = None``. A model with a ``__table__`` has it when the
    table does.
    """

    #: The exchange of messages that name none.
    signalbus_exchange: str | None = None

    #: The routing key of messages that name none.
    signalbus_routing_key: str | None = None

    #: Signals that are sent and deleted in one transaction.
    signalbus_burst_count: int = 500

    if TYPE_CHECKING:
        signalbus_id: Mapped[str | None]
    else:

        @declared_attr
        def signalbus_id(cls):  # noqa: ANN201 - SQLAlchemy would take the annotation for the type of the column
            has_table_of_its_own = getattr(cls, "__table__", None) is not None and not has_inherited_table(cls)
            return None if has_table_of_its_own else signal_id_column()

    def signalbus_message(self) -> Message | Sequence[Message]:
        """Return the message of this signal, or its messages. The model must define it.

        An empty list means that there is nothing to send: the signal is deleted. None is an error.
        """
        raise TypeError(f"{type(self).__name__} must define signalbus_message(self) and return a Message.")

    def send_signalbus_message(self) -> None:
        """Send this signal."""
        _publisher().publish_signals([self], prepared_messages)

    @classmethod
    def send_signalbus_messages(cls, instances: Sequence[Any]) -> None:
        """Send many signals at once."""
        _publisher().publish_signals(instances, partial(prepared_messages, database=BurstDatabase()))


def prepared_messages(signal: RabbitMQSignal, database: Callable[[Any], str] = database_of) -> list[Message]:
    """The messages of a signal, with the properties filled in that they do not set.

    :param database: returns the database of the signal.
    """
    messages = as_messages(signal.signalbus_message())
    return [_prepared(signal, message, number, database) for number, message in enumerate(messages, start=1)]


def _prepared(signal: RabbitMQSignal, message: Message, number: int, database: Callable[[Any], str]) -> Message:
    body, exchange, routing_key = message.body, message.exchange, message.routing_key
    is_text = isinstance(body, str)
    properties = _copy(message.properties)
    if properties.delivery_mode is None:
        properties.delivery_mode = 2
    if properties.type is None:
        properties.type = type(signal).__name__
    if properties.timestamp is None:
        properties.timestamp = _timestamp(signal)
    if properties.content_type is None:
        properties.content_type = "text/plain" if is_text else "application/octet-stream"
    if properties.content_encoding is None and is_text:
        properties.content_encoding = "utf-8"
    if properties.message_id is None:
        properties.message_id = message_id(signal, number, database)
    return Message(
        signal.signalbus_exchange if exchange is None else exchange,
        signal.signalbus_routing_key if routing_key is None else routing_key,
        body,
        properties,
        message.mandatory,
    )


def _timestamp(signal: RabbitMQSignal) -> int:
    """When the signal was written, the same on every resend; now, if that is unknown or out of AMQP's range."""
    moment = written_at(signal)
    seconds = -1 if moment is None else math.floor(moment.timestamp())
    return seconds if seconds >= 0 else int(time.time())


def _copy(given: BasicProperties | None) -> BasicProperties:
    if given is None:
        return BasicProperties()
    if type(given) is not BasicProperties:
        return BasicProperties(**{name: getattr(given, name) for name in PROPERTIES})
    properties = BasicProperties()
    vars(properties).update(vars(given))
    return properties


def _publisher() -> Publisher:
    """The publisher of the application; created from its configuration when it has none."""
    publisher = current_app.extensions.get("signalbus_rabbitmq")
    if publisher is None:
        with _creating:
            publisher = current_app.extensions.get("signalbus_rabbitmq")
            if publisher is None:
                publisher = Publisher(current_app._get_current_object())  # type: ignore[attr-defined]
    assert isinstance(publisher, Publisher)
    return publisher
