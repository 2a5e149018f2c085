"""Sending signals to RabbitMQ, with publisher confirms."""

from __future__ import annotations

import pika.exceptions

from ..trouble import outage_errors
from .link import BrokerConnectionError
from .message import InvalidMessageError, Message
from .publisher import Publisher, PublisherStatus
from .signal import RabbitMQSignal

__all__ = [
    # What a model needs
    "RabbitMQSignal",
    "Message",
    # Publishing
    "Publisher",
    "PublisherStatus",
    # Errors
    "BrokerConnectionError",
    "InvalidMessageError",
]

# Raised by a send method of the application's own, they tell of the broker, and of no signal.
outage_errors(pika.exceptions.AMQPConnectionError, BrokerConnectionError)
