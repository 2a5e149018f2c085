"""Models of SQLModel."""

from __future__ import annotations

from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from signalbus_core import inbox
from signalbus_core.rabbitmq import Message, OutboxMessage, RabbitMQSignal


class Base(SQLModel, registry=registry()):
    """Not SQLModel itself, whose models are those of the whole process."""


class Order(Base, table=True):
    __tablename__ = "orders"

    id: int | None = Field(default=None, primary_key=True)
    item: str


class Outbox(OutboxMessage, Base, table=True):
    __tablename__ = "outbox"


class OrderPlaced(RabbitMQSignal, Base, table=True):
    __tablename__ = "order_placed"

    id: int | None = Field(default=None, primary_key=True)
    exchange: str

    def signalbus_message(self) -> Message:
        return Message(self.exchange, "signal", str(self.id))


inbox.table(Base.metadata)
