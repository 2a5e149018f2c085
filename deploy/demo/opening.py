"""What the shop needs before its first order: tables, and an exchange with the queue that its consumer reads."""

from __future__ import annotations

from flask import Flask

from relay.drill.resources import open_connection

from .shop import EXCHANGE, ROUTING_KEY, db

QUEUE = "demo"


def open_shop(app: Flask) -> None:
    """Create what is not there yet."""
    connection = open_connection(app.config["SIGNALBUS_RABBITMQ_URL"])
    try:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
        channel.queue_declare(QUEUE, durable=True)
        channel.queue_bind(QUEUE, EXCHANGE, ROUTING_KEY)
    finally:
        connection.close()
    with app.app_context():
        db.create_all()
        db.engine.dispose()
