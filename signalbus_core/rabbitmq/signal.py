"""A ready-made signal model: the model defines its message; this mixin fills in the rest and publishes it.

The id of a message is the same on every resend.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from flask import current_app
from pika.spec import BasicProperties
from sqlalchemy.orm import Mapped, declared_attr, has_inherited_table

from ..failures import error_text, raise_if_stop
from ..model.sending.sent_messages import SentMessage
from ..schema.signal_id import signal_id_column
from .amqp.encoder import Common, Encoder, MessageMaker, shared_of
from .amqp.frames import EncodedMessage
from .amqp.message import InvalidMessageError, Message, as_messages, copied
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
    signalbus_exchange: ClassVar[str | None] = None

    #: The routing key of messages that name none.
    signalbus_routing_key: ClassVar[str | None] = None

    #: The JSON Schema of the bodies, for `signalbus-relay describe`: a mapping, or a callable that returns it.
    signalbus_schema: ClassVar[Any] = None

    #: Signals that are sent and deleted in one transaction.
    signalbus_burst_count: ClassVar[int] = 500

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


def replayed_messages(signal: RabbitMQSignal, ids: Sequence[str | None], sent_at: datetime) -> list[Message]:
    """The messages of a signal that was sent before, complete, with the same ids.

    :param ids: those that its messages had; the usual ones where they are not known.
    :param sent_at: when it was sent, which is the timestamp of messages of models that record no time of writing.
    """
    made = as_messages(signal.signalbus_message())
    known = ids if len(ids) == len(made) else [None] * len(made)
    usual = (signal.signalbus_exchange, signal.signalbus_routing_key, type(signal).__name__)
    found: list[Message] = []
    for number, (message, before) in enumerate(zip(made, known, strict=True), start=1):
        whole = completed(
            message,
            usual,
            partial(message_id, signal, number),
            lambda: seconds_of(written_at(signal) or sent_at),
        )
        if before is not None and whole.properties is not None:
            whole.properties.message_id = before
        found.append(whole)
    return found


class SignalMessages(MessageMaker[RabbitMQSignal]):
    """The messages of the signals of one burst, with the properties filled in that they do not set.

    A draft is a signal, one of its messages, and its number.
    """

    def __init__(self) -> None:
        super().__init__(lambda signal: signal.signalbus_message())
        self._database = BurstDatabase()

    def drafts(self, signal: RabbitMQSignal) -> list[Any]:
        made = as_messages(signal.signalbus_message())
        return [(signal, message, number) for number, message in enumerate(made, start=1)]

    def message(self, draft: Any) -> Message:
        if isinstance(draft, Message):
            return draft
        signal, message, number = draft
        try:
            return completed(
                message,
                (signal.signalbus_exchange, signal.signalbus_routing_key, type(signal).__name__),
                lambda: message_id(signal, number, self._database),
                lambda: seconds_of(written_at(signal)),
            )
        except BaseException as error:
            raise_if_stop(error)
            raise InvalidMessageError(error_text(error, [signal])) from error

    def sent_message(self, draft: Any) -> SentMessage:
        if isinstance(draft, Message):
            return super().sent_message(draft)
        signal, message, number = draft
        own = None if message.properties is None else message.properties.message_id
        return SentMessage(
            message_id(signal, number, self._database) if own is None else own,
            signal.signalbus_exchange if message.exchange is None else message.exchange,
            signal.signalbus_routing_key if message.routing_key is None else message.routing_key,
        )

    def encoding(self, encoder: Encoder) -> Callable[[Any], EncodedMessage]:
        usual = self._encoding_usual(encoder)

        def encode(draft: Any) -> EncodedMessage:
            try:
                encoded = usual(*draft)
            except BaseException as error:  # noqa: BLE001 - what is wrong, the slow way finds out
                raise_if_stop(error)
                encoded = None
            return encoder.encode(self.message(draft)) if encoded is None else encoded

        return encode

    def _encoding_usual(self, encoder: Encoder) -> Callable[[Any, Message, int], EncodedMessage | None]:
        """What encodes usual messages in one pass. For others it returns None, or raises any error."""
        known: dict[tuple[object, ...], Common | None] = {}

        def encode(signal: RabbitMQSignal, message: Message, number: int) -> EncodedMessage | None:
            body: Any = message.body
            kind, properties, is_text = type(signal), message.properties, type(body) is str
            if is_text:
                body = body.encode()
            elif type(body) is not bytes:
                return None
            exchange = signal.signalbus_exchange if message.exchange is None else message.exchange
            routing_key = signal.signalbus_routing_key if message.routing_key is None else message.routing_key
            if properties is None:
                key = (kind, exchange, type(exchange), routing_key, type(routing_key), message.mandatory, is_text)
                common = known.get(key)
                if common is None:
                    values = _filled(_NOTHING, is_text, kind.__name__)
                    common = known[key] = encoder.common(exchange, routing_key, message.mandatory, values)
                properties = _NO_PROPERTIES
            elif type(properties) is BasicProperties:
                values = _filled(shared_of(properties), is_text, kind.__name__)
                common = encoder.common(exchange, routing_key, message.mandatory, values)
            else:
                return None
            return (
                None
                if common is None
                else encoder.assemble(
                    common,
                    body,
                    properties.headers,
                    properties.correlation_id,
                    message_id(signal, number, self._database)
                    if properties.message_id is None
                    else properties.message_id,
                    seconds_of(written_at(signal)) if properties.timestamp is None else properties.timestamp,
                )
            )

        return encode


_NO_PROPERTIES = BasicProperties()

#: Shared properties of which none is set.
_NOTHING = shared_of(_NO_PROPERTIES)


def _filled(values: tuple[Any, ...], is_text: bool, kind: str) -> tuple[Any, ...]:
    """The shared properties of a message with those filled in that it does not set."""
    content_type, content_encoding, delivery_mode, *others, type_, user_id, app_id, cluster_id = values
    if content_type is None:
        content_type = "text/plain" if is_text else "application/octet-stream"
    if content_encoding is None and is_text:
        content_encoding = "utf-8"
    return (
        content_type,
        content_encoding,
        2 if delivery_mode is None else delivery_mode,
        *others,
        kind if type_ is None else type_,
        user_id,
        app_id,
        cluster_id,
    )


def completed(
    message: Message,
    usual: tuple[str | None, str | None, str],
    id_of: Callable[[], str],
    seconds: Callable[[], int],
) -> Message:
    """A message with everything filled in that it does not set.

    :param usual: the exchange, routing key and type.
    """
    body, exchange, routing_key = message.body, message.exchange, message.routing_key
    is_text = isinstance(body, str)
    properties = BasicProperties() if message.properties is None else copied(message.properties)
    if properties.delivery_mode is None:
        properties.delivery_mode = 2
    if properties.type is None:
        properties.type = usual[2]
    if properties.timestamp is None:
        properties.timestamp = seconds()
    if properties.content_type is None:
        properties.content_type = "text/plain" if is_text else "application/octet-stream"
    if properties.content_encoding is None and is_text:
        properties.content_encoding = "utf-8"
    if properties.message_id is None:
        properties.message_id = id_of()
    return Message(
        usual[0] if exchange is None else exchange,
        usual[1] if routing_key is None else routing_key,
        body,
        properties,
        message.mandatory,
    )


def seconds_of(moment: datetime | None) -> int:
    """The timestamp of a message, the same on every resend; now, if the moment is unknown or out of AMQP's range."""
    seconds = -1 if moment is None else math.floor(moment.timestamp())
    return seconds if seconds >= 0 else int(time.time())


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
