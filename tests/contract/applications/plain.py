"""Models on a plain base class of SQLAlchemy."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from signalbus_core import inbox
from signalbus_core.rabbitmq import Message, OutboxMessage, RabbitMQSignal


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


class Outbox(OutboxMessage, Base):
    __tablename__ = "outbox"


class OrderPlaced(RabbitMQSignal, Base):
    __tablename__ = "order_placed"

    id: Mapped[int] = mapped_column(primary_key=True)
    exchange: Mapped[str]

    def signalbus_message(self) -> Message:
        return Message(self.exchange, "signal", str(self.id))


class Handwritten(Base):
    """A signal model by its method alone."""

    __tablename__ = "handwritten"

    id: Mapped[int] = mapped_column(primary_key=True)
    sent: list[Any] = []

    def send_signalbus_message(self) -> None:
        self.sent.append(self.id)


inbox.table(Base.metadata)
