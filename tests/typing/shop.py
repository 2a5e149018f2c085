"""Typical code of a user, in full types; checked by mypy, not run."""

from __future__ import annotations

from collections.abc import Sequence

import pika
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from signalbus_core import (
    AtomicProceduresMixin,
    Outcome,
    OutcomeKind,
    PartialDeliveryError,
    PublishError,
    SignalBus,
    SignalBusMixin,
    get_models_to_flush,
)
from signalbus_core.rabbitmq import Message, OutboxMessage, Publisher, RabbitMQSignal, outbox_model


class Base(DeclarativeBase):
    pass


class Database(AtomicProceduresMixin, SignalBusMixin, SQLAlchemy):
    pass


db = Database(model_class=Base, engine_options={"pool_size": 5})


class OrderPlaced(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
    signalbus_exchange = "orders"
    signalbus_burst_count = 100
    id: Mapped[int] = mapped_column(primary_key=True)

    def signalbus_message(self) -> Message:
        return Message(body=b"{}", properties=pika.BasicProperties(priority=1))


class Several(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
    id: Mapped[int] = mapped_column(primary_key=True)

    def signalbus_message(self) -> Sequence[Message]:
        return [Message("x", "y", "text"), Message("x", "z", bytearray(b""), mandatory=False)]


class OrdersOutbox(OutboxMessage, db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "orders_outbox"
    signalbus_exchange = "orders"


Outbox: type[OutboxMessage] = outbox_model(db, "outbox", exchange="orders")


def announce(order_id: int) -> None:
    db.session.add(OrdersOutbox(routing_key="order.placed", body_json={"order_id": order_id}, priority=3))
    db.session.add(Outbox(routing_key="order.placed", body=b"1"))


def routing_keys(rows: Sequence[OutboxMessage]) -> list[str | None]:
    return [row.routing_key for row in rows]


@db.atomic
def place_order(item: str, *, quantity: int = 1) -> int:
    with db.retry_on_integrity_error():
        db.session.add(OrderPlaced())
    return quantity


number: int = place_order("tea", quantity=2)
text: str = db.execute_atomic(lambda: "done")


def send_everything(app: Flask) -> int:
    db.init_app(app)
    bus: SignalBus = db.signalbus
    counts: dict[type, int] = bus.pending(limit=10)
    assert counts
    return bus.flushmany(get_models_to_flush(bus, ["OrderPlaced"])) + bus.flush()


def publish(app: Flask) -> list[Outcome]:
    with Publisher(app, timeout_seconds=5) as publisher:
        try:
            publisher.publish_messages([Message("x", "y", b"")], timeout_seconds=1.5)
            publisher.publish_signals([1, 2], lambda signal: Message("x", "y", str(signal)))
        except PublishError as error:
            return [outcome for outcome in error.outcomes if outcome.kind is OutcomeKind.REFUSED]
        except PartialDeliveryError as error:
            return [outcome for _, outcome in error.failed]
    return []
