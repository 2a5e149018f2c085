"""A ready-made signal model: the model defines its message; this mixin fills in the rest and publishes it.

The id of a message is the same on every resend.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import current_app
from pika.spec import BasicProperties
from sqlalchemy.orm import Mapped, declared_attr, has_inherited_table

from ..schema.signal_id import signal_id_column
from .amqp.encoder import Encoder, MessageMaker, shared_of
from .amqp.frames import EncodedMessage
from .amqp.message import PROPERTIES, Message
from .message_id import BurstDatabase, message_id, written_at
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
        publisher_of_app().publish_signals([self], SignalMessages())

    @classmethod
    def send_signalbus_messages(cls, instances: Sequence[Any]) -> None:
        """Send many signals at once."""
        publisher_of_app().publish_signals(instances, SignalMessages())


class Draft(NamedTuple):
    """A message of a signal, and what is filled in where it sets nothing."""

    message: Message
    exchange: str | None
    routing_key: str | None
    type: str
    message_id: str | None
    timestamp: int | None

    def completed(self) -> Message:
        """The message with everything filled in."""
        body, exchange, routing_key = self.message.body, self.message.exchange, self.message.routing_key
        is_text = isinstance(body, str)
        properties = _copy(self.message.properties)
        if properties.delivery_mode is None:
            properties.delivery_mode = 2
        if properties.type is None:
            properties.type = self.type
        if properties.timestamp is None:
            properties.timestamp = self.timestamp
        if properties.content_type is None:
            properties.content_type = "text/plain" if is_text else "application/octet-stream"
        if properties.content_encoding is None and is_text:
            properties.content_encoding = "utf-8"
        if properties.message_id is None:
            properties.message_id = self.message_id
        return Message(
            self.exchange if exchange is None else exchange,
            self.routing_key if routing_key is None else routing_key,
            body,
            properties,
            self.message.mandatory,
        )


class SignalMessages(MessageMaker[RabbitMQSignal]):
    """The messages of the signals of one burst, with the properties filled in that they do not set."""

    def __init__(self) -> None:
        super().__init__(lambda signal: signal.signalbus_message())
        self._database = BurstDatabase()

    def drafts(self, signal: RabbitMQSignal) -> list[Any]:
        return [self._draft(signal, *numbered) for numbered in enumerate(super().drafts(signal), start=1)]

    def _draft(self, signal: RabbitMQSignal, number: int, message: Message) -> Draft | Message:
        properties = message.properties
        draft = Draft(
            message,
            signal.signalbus_exchange if message.exchange is None else None,
            signal.signalbus_routing_key if message.routing_key is None else None,
            type(signal).__name__,
            message_id(signal, number, self._database) if properties is None or properties.message_id is None else None,
            seconds_of(written_at(signal)) if properties is None or properties.timestamp is None else None,
        )
        # What another class than pika's raises is the fault of this signal.
        return draft if properties is None or type(properties) is BasicProperties else draft.completed()

    def message(self, draft: Any) -> Message:
        return draft.completed() if isinstance(draft, Draft) else draft

    def encoding(self, encoder: Encoder) -> Callable[[Any], EncodedMessage]:
        def encode(draft: Any) -> EncodedMessage:
            try:
                usual = _encode_usual(encoder, draft)
            except Exception:  # noqa: BLE001 - what is wrong, the slow way finds out
                usual = None
            return encoder.encode(self.message(draft)) if usual is None else usual

        return encode


#: The shared properties of a message that sets none, without its type: those of a text, and of bytes.
_OF_TEXT: tuple[Any, ...] = ("text/plain", "utf-8", 2, None, None, None)
_OF_BYTES: tuple[Any, ...] = ("application/octet-stream", None, 2, None, None, None)


def _encode_usual(encoder: Encoder, draft: Draft) -> EncodedMessage | None:
    """Encode in one pass what :meth:`Draft.completed` and the encoder make in two."""
    message, exchange, routing_key, name, message_id, timestamp = draft
    body, properties = message.body, message.properties
    usual = _OF_TEXT
    if type(body) is str:
        body = body.encode()
    elif type(body) is bytes:
        usual = _OF_BYTES
    else:
        return None
    exchange = exchange if message.exchange is None else message.exchange
    routing_key = routing_key if message.routing_key is None else message.routing_key
    if properties is None:
        common = encoder.common(exchange, routing_key, message.mandatory, (*usual, name, None, None, None))
        return None if common is None else encoder.assemble(common, body, None, None, message_id, timestamp)
    if type(properties) is not BasicProperties:
        return None
    content_type, content_encoding, delivery_mode, priority, reply_to, expiration, kind, *last = shared_of(properties)
    values = (
        usual[0] if content_type is None else content_type,
        usual[1] if content_encoding is None else content_encoding,
        usual[2] if delivery_mode is None else delivery_mode,
        priority,
        reply_to,
        expiration,
        name if kind is None else kind,
        *last,
    )
    common = encoder.common(exchange, routing_key, message.mandatory, values)
    return (
        None
        if common is None
        else encoder.assemble(
            common,
            body,
            properties.headers,
            properties.correlation_id,
            message_id if properties.message_id is None else properties.message_id,
            timestamp if properties.timestamp is None else properties.timestamp,
        )
    )


def seconds_of(moment: datetime | None) -> int:
    """The timestamp of a message, the same on every resend; now, if the moment is unknown or out of AMQP's range."""
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


def publisher_of_app() -> Publisher:
    """The publisher of the application; created from its configuration when it has none."""
    publisher = current_app.extensions.get("signalbus_rabbitmq")
    if publisher is None:
        with _creating:
            publisher = current_app.extensions.get("signalbus_rabbitmq")
            if publisher is None:
                publisher = Publisher(current_app._get_current_object())  # type: ignore[attr-defined]
    assert isinstance(publisher, Publisher)
    return publisher
