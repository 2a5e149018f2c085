"""Models of Flask-SQLAlchemy."""

from __future__ import annotations

from flask_sqlalchemy import SQLAlchemy

from signalbus_core import SignalBusMixin, inbox
from signalbus_core.rabbitmq import Message, OutboxMessage, RabbitMQSignal


class Database(SignalBusMixin, SQLAlchemy):
    pass


db = Database()
Base = db.Model


class Order(db.Model):  # type: ignore[name-defined]
    __tablename__ = "orders"

    id = db.Column(db.Integer, primary_key=True)
    item = db.Column(db.String, nullable=False)


class Outbox(OutboxMessage, db.Model):  # type: ignore[name-defined]
    __tablename__ = "outbox"


class OrderPlaced(RabbitMQSignal, db.Model):  # type: ignore[name-defined]
    __tablename__ = "order_placed"

    id = db.Column(db.Integer, primary_key=True)
    exchange = db.Column(db.String, nullable=False)

    def signalbus_message(self) -> Message:
        return Message(self.exchange, "signal", str(self.id))


inbox.table(db.metadata)
