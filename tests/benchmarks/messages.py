"""The messages that are measured, as a ``RabbitMQSignal`` of the application makes them."""

from __future__ import annotations

import time

from pika.spec import BasicProperties

from signalbus_core.rabbitmq import Message

ROUTING_KEY = "signal.sent"


def message(exchange: str, key: int, body_bytes: int) -> Message:
    """A message with everything filled in."""
    properties = BasicProperties(
        content_type="text/plain",
        content_encoding="utf-8",
        delivery_mode=2,
        message_id=f"signal_0:{key}",
        timestamp=int(time.time()),
        type="Signal0",
    )
    return Message(exchange, ROUTING_KEY, "x" * body_bytes, properties)
