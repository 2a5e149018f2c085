"""Sending signals to RabbitMQ, with publisher confirms."""

from __future__ import annotations

from .connection import BrokerConnectionError
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
