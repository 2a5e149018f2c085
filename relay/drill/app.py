"""The application of a drill's relays: a signal model for each kind, whose tables have the drill's name.

Its configuration comes from the environment, because every user can read a command line.
"""

from __future__ import annotations

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from signalbus_core import OrderedSignal, ScheduledSignal, SignalBusMixin
from signalbus_core.rabbitmq import Message, RabbitMQSignal

from .kinds.tables import ACCOUNT, KEYED, SCHEDULED
from .relay_process import tie_to_drill

#: The prefix of each configuration key in the environment.
PREFIX = "SIGNALBUS_DRILL"

#: The burst size. Larger: fewer transactions, and more duplicates after a fault.
BURST_COUNT = 50


class DrillDatabase(SignalBusMixin, SQLAlchemy):
    """Flask-SQLAlchemy with a signal bus."""


def create_app() -> Flask:
    """Build the application. Its process ends with the drill that started it."""
    tie_to_drill()
    app = Flask(__name__)
    app.config.from_prefixed_env(PREFIX)
    db = DrillDatabase(app)
    name = str(app.config["NAME"])
    # A table that does not exist: failed signals of a drill must not be stored among the user's own.
    db.metadata.info["signalbus_parked"] = f"{name}_parked"

    class Numbered(RabbitMQSignal):
        """A signal with a number."""

        signalbus_exchange = name
        signalbus_routing_key = "drill"
        signalbus_burst_count = BURST_COUNT
        # The numbers tell the signals of a drill apart.
        signalbus_id = None

        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int]

        def signalbus_message(self) -> Message:
            return Message(body=str(self.number))

    class DrillSignal(Numbered, db.Model):  # type: ignore[name-defined,misc]
        __tablename__ = name

    class DrillScheduled(ScheduledSignal, Numbered, db.Model):  # type: ignore[name-defined,misc]
        __tablename__ = name + SCHEDULED

    # The mapper registry holds only weak references to classes.
    app.extensions["drill_signals"] = [DrillSignal, DrillScheduled]
    if app.config["WITH_ORDER"]:

        class DrillKeyed(OrderedSignal, Numbered, db.Model):  # type: ignore[name-defined,misc]
            __tablename__ = name + KEYED
            signalbus_order_by = ACCOUNT

            account: Mapped[int]

        app.extensions["drill_signals"].append(DrillKeyed)
    return app


def environment(name: str, database_url: str, amqp_url: str, *, with_order: bool) -> dict[str, str]:
    """The environment variables of the application.

    :param name: of the table and of the exchange.
    """
    settings = {
        "NAME": name,
        "SQLALCHEMY_DATABASE_URI": database_url,
        "SIGNALBUS_RABBITMQ_URL": amqp_url,
        "WITH_ORDER": "true" if with_order else "false",
    }
    return {f"{PREFIX}_{key}": value for key, value in settings.items()}
