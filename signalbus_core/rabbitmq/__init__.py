"""Sends signals to RabbitMQ with publisher confirms."""

from __future__ import annotations

import pika.exceptions

from ..failures import outage_errors
from .amqp.errors import failure_of, remedy_of_reason
from .amqp.message import InvalidMessageError, Message, as_messages
from .amqp.nodes import BrokerLocation
from .amqp.protocol import BrokerConnectionError
from .publisher import Publisher, PublisherStatus
from .rows.build import BuiltSignal, build_messages, build_restored, pending_rows, sends_itself
from .rows.outbox import OutboxMessage, outbox_model, outbox_table_sql
from .rows.outbox_row import HEADERS_TEXT, message_from_row
from .rows.row_signal import RowSignal
from .signal import RabbitMQSignal, replayed_messages

__all__ = [
    # What a model needs
    "RabbitMQSignal",
    "Message",
    # Outbox tables
    "OutboxMessage",
    "outbox_model",
    "outbox_table_sql",
    "message_from_row",
    # Publishing
    "Publisher",
    "PublisherStatus",
    # For relays: models of outbox tables
    "RowSignal",
    "HEADERS_TEXT",
    # For relays: the messages of a signal; where the broker is, and why it cannot be reached
    "as_messages",
    "BuiltSignal",
    "build_messages",
    "build_restored",
    "pending_rows",
    "sends_itself",
    "replayed_messages",
    "BrokerLocation",
    "failure_of",
    "remedy_of_reason",
    # Errors
    "BrokerConnectionError",
    "InvalidMessageError",
]

# Raised by an application's own send method, these errors are an outage of the broker, not a fault of a signal.
outage_errors(pika.exceptions.AMQPConnectionError, BrokerConnectionError)
