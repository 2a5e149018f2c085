"""A small shop: it writes an order and its signal in one transaction, and leaves the sending to the relay."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Flask, jsonify, redirect, request
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import DateTime, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from signalbus_core import AtomicProceduresMixin, SignalBusMixin
from signalbus_core.rabbitmq import Message, RabbitMQSignal

EXCHANGE = "shop"
ROUTING_KEY = "order.placed"


class Base(DeclarativeBase):
    pass


class Database(AtomicProceduresMixin, SignalBusMixin, SQLAlchemy):
    """Flask-SQLAlchemy with atomic blocks and a signal bus."""


db = Database(model_class=Base)


class Order(db.Model):  # type: ignore[name-defined,misc]
    """The business data."""

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    quantity: Mapped[int]


class OrderPlaced(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
    """The signal: this order exists now."""

    signalbus_exchange = EXCHANGE
    signalbus_routing_key = ROUTING_KEY

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    def signalbus_message(self) -> Message:
        return Message(body=json.dumps({"order_id": self.order_id}))


class OutOfStockError(Exception):
    """The order cannot be filled, so neither it nor its signal may exist."""

    def __init__(self, order_id: int) -> None:
        self.order_id = order_id
        super().__init__(f"order {order_id} cannot be filled")


@db.atomic
def place_order(item: str, quantity: int, *, in_stock: bool = True) -> int:
    """Write an order and its signal; both or neither."""
    order = Order(item=item, quantity=quantity)
    db.session.add(order)
    db.session.flush()
    db.session.add(OrderPlaced(order_id=order.id))
    db.session.flush()
    if not in_stock:
        raise OutOfStockError(order.id)
    return order.id


def setting(environ: Mapping[str, str], name: str) -> str:
    """A setting of the environment, or of the file that the name with ``_FILE`` leads to."""
    path = environ.get(f"{name}_FILE")
    return Path(path).read_text().strip() if path else environ[name]


def create_app(environ: Mapping[str, str] = os.environ) -> Flask:
    """Build the shop; its settings come from the environment."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = setting(environ, "SHOP_DATABASE_URL")
    app.config["SIGNALBUS_RABBITMQ_URL"] = setting(environ, "SHOP_RABBITMQ_URL")
    db.init_app(app)

    @app.post("/orders")
    def orders() -> ResponseReturnValue:
        wanted: Mapping[str, Any] = request.get_json() if request.is_json else request.form
        order_id = place_order(wanted["item"], int(wanted["quantity"]))
        return (jsonify(order_id=order_id), 201) if request.is_json else redirect("/", 303)

    return app
