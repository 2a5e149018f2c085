"""A ready-made signal: the model says which message it stands for, everything else is done here."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote

from flask import current_app
from pika.spec import BasicProperties
from sqlalchemy import Table
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_state

from .message import PROPERTIES, Message, as_messages
from .publisher import Publisher

#: AMQP's limit for a short string, in bytes.
LONGEST_ID = 255

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

    Messages are persistent and mandatory. What the message leaves open is filled in: ``message_id`` (the same on every
    resend, so that consumers can drop duplicates), ``type`` (the class name), ``timestamp`` (of sending) and
    ``content_type`` (``text/plain`` for text, else ``application/octet-stream``). What the message sets, wins.
    """

    #: The exchange of messages that name none.
    signalbus_exchange: str | None = None

    #: The routing key of messages that name none.
    signalbus_routing_key: str | None = None

    #: Signals that are sent and deleted in one transaction.
    signalbus_burst_count: int = 500

    def signalbus_message(self) -> Message | Sequence[Message]:
        """Return the message of this signal, or its messages. To be defined by the model.

        An empty list says that there is nothing to send: the signal is deleted. None is an error.
        """
        raise TypeError(f"{type(self).__name__} must define signalbus_message(self) and return a Message.")

    def send_signalbus_message(self) -> None:
        """Send this signal."""
        _publisher().publish_signals([self], prepared_messages)

    @classmethod
    def send_signalbus_messages(cls, instances: Sequence[Any]) -> None:
        """Send many signals at once."""
        _publisher().publish_signals(instances, prepared_messages)


def prepared_messages(signal: RabbitMQSignal) -> list[Message]:
    """The messages of a signal, with everything filled in that they leave open."""
    messages = as_messages(signal.signalbus_message())
    return [_prepared(signal, message, number) for number, message in enumerate(messages, start=1)]


def _prepared(signal: RabbitMQSignal, message: Message, number: int) -> Message:
    body, exchange, routing_key = message.body, message.exchange, message.routing_key
    is_text = isinstance(body, str)
    properties = _copy(message.properties)
    if properties.delivery_mode is None:
        properties.delivery_mode = 2
    if properties.type is None:
        properties.type = type(signal).__name__
    if properties.timestamp is None:
        properties.timestamp = int(time.time())
    if properties.content_type is None:
        properties.content_type = "text/plain" if is_text else "application/octet-stream"
    if properties.content_encoding is None and is_text:
        properties.content_encoding = "utf-8"
    if properties.message_id is None:
        properties.message_id = message_id(signal, number)
    return Message(
        signal.signalbus_exchange if exchange is None else exchange,
        signal.signalbus_routing_key if routing_key is None else routing_key,
        body,
        properties,
        message.mandatory,
    )


def _copy(given: BasicProperties | None) -> BasicProperties:
    if given is None:
        return BasicProperties()
    if type(given) is not BasicProperties:
        return BasicProperties(**{name: getattr(given, name) for name in PROPERTIES})
    properties = BasicProperties()
    vars(properties).update(vars(given))
    return properties


def message_id(signal: Any, number: int = 1) -> str:
    """The id of a signal's message: its table and primary key, the same on every resend.

    Parts are escaped, so that no two signals share an id; the signal's further messages end in ``#2``, ``#3``. An id
    that AMQP could not carry is shortened to a digest.

    :param number: which of the signal's messages it is, from 1.
    """
    state = instance_state(signal)
    mapper = state.manager.mapper
    key = state.key[1] if state.key is not None else mapper.primary_key_from_instance(signal)
    prefix = _table_part(mapper)
    # Most keys are one number, and most signals have one message.
    text = f"{prefix}{key[0]}" if len(key) == 1 and type(key[0]) is int else prefix + ":".join(map(_id_part, key))
    if number > 1:
        text += f"#{number}"
    if len(text) > LONGEST_ID:
        table = cast(Table, mapper.local_table).fullname
        return f"{table[:100].encode('ascii', 'replace').decode()}:sha256-{hashlib.sha256(text.encode()).hexdigest()}"
    return text


@lru_cache(maxsize=1024)
def _table_part(mapper: Mapper[Any]) -> str:
    return _quote(cast(Table, mapper.local_table).fullname) + ":"


def _quote(text: str) -> str:
    return quote(text, safe="-_.~ @+,=/")


def _id_part(part: object) -> str:
    if type(part) is int:
        return str(part)
    if isinstance(part, bytes):
        return part.hex()
    if isinstance(part, datetime) and part.tzinfo is not None:
        # The database gives it in the time zone of the session, which may be another one at the next try.
        part = part.astimezone(timezone.utc)
    return _quote(str(part))


def _publisher() -> Publisher:
    """The publisher of the application; made from its configuration when it has none."""
    publisher = current_app.extensions.get("signalbus_rabbitmq")
    if publisher is None:
        with _creating:
            publisher = current_app.extensions.get("signalbus_rabbitmq")
            if publisher is None:
                publisher = Publisher(current_app._get_current_object())  # type: ignore[attr-defined]
    assert isinstance(publisher, Publisher)
    return publisher
