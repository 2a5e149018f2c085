"""The application whose signals are measured; its relays load it as any other.

A model for each number, and nothing but a key and a body in its table. What varies comes from the environment.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from flask import Flask
from sqlalchemy import BigInteger, Column, Date, Text, func, text

from signalbus_core import OrderedSignal
from signalbus_core.rabbitmq import Message, RabbitMQSignal
from tests.support.outbox_app import make_app

from .messages import ROUTING_KEY
from .settings import BURST_COUNT

#: How long the slow destination takes for each burst.
SLOW_SECONDS = 0.25


def create_app() -> Flask:
    app, db = make_app(os.environ["BENCH_DATABASE_URL"], SIGNALBUS_RABBITMQ_URL=os.environ["BENCH_AMQP_URL"])
    # Kept, because SQLAlchemy keeps no class that nobody else does.
    app.extensions["models"] = [
        make_model(db, number, _sender(number)) for number in range(int(os.environ.get("BENCH_MODELS", "1")))
    ]
    return app


class Sent(RabbitMQSignal):
    """Sent as users would send it."""

    signalbus_exchange = os.environ.get("BENCH_EXCHANGE", "classic")
    signalbus_routing_key = ROUTING_KEY
    signalbus_burst_count = int(os.environ.get("BENCH_BURST_COUNT", BURST_COUNT))
    signalbus_keep_days = int(os.environ.get("BENCH_KEEP_DAYS", "0")) or None
    body: Any

    def signalbus_message(self) -> Message:
        return Message(body=self.body)


class SentInOrder(OrderedSignal, Sent):
    """Sent in the order of its account."""

    signalbus_order_by = "account"


class SentNowhere(Sent):
    """Taken for sent at once."""

    def send_signalbus_message(self) -> None:
        pass

    @classmethod
    def send_signalbus_messages(cls, instances: Any) -> None:
        pass


class SentSlowly(Sent):
    """Sent to a destination that takes its time."""

    @classmethod
    def send_signalbus_messages(cls, instances: Any) -> None:
        threading.Event().wait(SLOW_SECONDS)
        super().send_signalbus_messages(instances)


SENDERS = {"rabbitmq": Sent, "nowhere": SentNowhere, "slow": SentSlowly, "ordered": SentInOrder}


def _sender(number: int) -> type[Sent]:
    """Only the first model is slow."""
    name = os.environ.get("BENCH_SENDER", "rabbitmq")
    return SENDERS["rabbitmq" if name == "slow" and number else name]


def _more_of_key() -> dict[str, Any]:
    """Further columns of the key, of other types, filled by the database."""
    columns = {
        "tenant": Column(Text, primary_key=True, server_default="somebody"),
        "written_on": Column(Date, primary_key=True, server_default=func.current_date()),
    }
    return dict(list(columns.items())[: int(os.environ.get("BENCH_KEY_COLUMNS", "1")) - 1])


def make_model(db: Any, number: int, sender: type[Sent]) -> type[Any]:
    columns = {"id": Column(BigInteger, primary_key=True), "body": Column(Text, nullable=False), **_more_of_key()}
    if sender is SentInOrder:
        columns["account"] = Column(BigInteger, nullable=False, server_default=text("CAST(random() * 1000 AS bigint)"))
    return type(f"Signal{number}", (sender, db.Model), {"__tablename__": f"signal_{number}", **columns})
