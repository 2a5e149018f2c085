"""The application of a drill's relays: one signal model, whose table has the drill's name.

Its configuration comes from the environment, because every user can read a command line.
"""

from __future__ import annotations

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from signalbus_core import SignalBusMixin
from signalbus_core.rabbitmq import Message, RabbitMQSignal

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

    class DrillSignal(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
        """A signal with a number."""

        __tablename__ = name
        signalbus_exchange = name
        signalbus_routing_key = "drill"
        signalbus_burst_count = BURST_COUNT
        # The numbers tell the signals of a drill apart.
        signalbus_id = None

        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int]

        def signalbus_message(self) -> Message:
            return Message(body=str(self.number))

    # The mapper registry holds only weak references to classes.
    app.extensions["drill_signal"] = DrillSignal
    return app


def environment(name: str, database_url: str, amqp_url: str) -> dict[str, str]:
    """The environment variables of the application.

    :param name: of the table and of the exchange.
    """
    settings = {"NAME": name, "SQLALCHEMY_DATABASE_URI": database_url, "SIGNALBUS_RABBITMQ_URL": amqp_url}
    return {f"{PREFIX}_{key}": value for key, value in settings.items()}
