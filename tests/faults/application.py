"""The application whose relays meet the faults. It is copied into the directory in which they run.

Files in that directory switch failpoints on: ``failpoint-<place>`` holds what the process that reaches the place does
to itself. With ``kill`` or ``stop`` only one process does it, with ``hang`` all wait until the file is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from pika import BasicProperties
from sqlalchemy import case
from sqlalchemy.orm import column_property, declared_attr

from signalbus_core import OrderedSignal, ScheduledSignal, SignalBusMixin
from signalbus_core.burst import failpoints
from signalbus_core.rabbitmq import Message, RabbitMQSignal

BURST_COUNT = 50


class Database(SignalBusMixin, SQLAlchemy):
    pass


db = Database()


class Numbered(RabbitMQSignal):
    """What the signal models have in common. What is special about a signal is its ``kind``."""

    signalbus_exchange = "faults"
    signalbus_burst_count = BURST_COUNT
    signalbus_keep_days = 1

    id = db.Column(db.BigInteger, primary_key=True)
    number = db.Column(db.BigInteger, nullable=False)
    routing_key = db.Column(db.Text, nullable=False)
    kind = db.Column(db.Text, nullable=False, server_default="good")

    @declared_attr
    def computed(cls):
        """A column that the database computes, and cannot compute of an unreadable row."""
        return column_property(1 / case((cls.kind == "unreadable", 0), else_=1))

    def signalbus_message(self):
        padding = "." * 100_000 if self.kind == "oversized" else ""
        # Nothing of a burst is sent before it is built.
        properties = BasicProperties(headers={"built_at": repr(time.time())})
        return Message(None, self.routing_key, f"{self.number}{padding}", properties)

    def send_signalbus_message(self):
        self.send_signalbus_messages([self])

    @classmethod
    def send_signalbus_messages(cls, instances):
        if any(one.kind == "poison" for one in instances):
            raise RuntimeError("this signal cannot be sent")
        if any(one.kind == "hangs" for one in instances):
            act_at("sender")
        super().send_signalbus_messages(instances)


class Signal(Numbered, db.Model):
    """The signals that are written all the while."""


class Neighbour(Numbered, db.Model):
    """Signals beside them, of which faults make what they need."""


class Keyed(OrderedSignal, Numbered, db.Model):
    """Signals in the order of their accounts."""

    signalbus_order_by = "account"

    account = db.Column(db.Integer, nullable=False)


class Scheduled(ScheduledSignal, Numbered, db.Model):
    """Signals that are due later."""


def act_at(place):
    """Do what a file in the directory says about this place."""
    marker = Path(f"failpoint-{place}")
    try:
        action = marker.read_text()
    except FileNotFoundError:
        return
    if action == "hang":
        hang(place, marker)
        return
    with contextlib.suppress(FileNotFoundError):
        # Of several processes that are here at the same time, one can rename it.
        marker.rename(f"reached-{place}-{os.getpid()}-{threading.get_ident()}")
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[action])


def hang(place, marker):
    reached = Path(f"reached-{place}-{os.getpid()}-{threading.get_ident()}")
    reached.touch()
    while marker.exists():
        threading.Event().wait(0.005)
    reached.unlink(missing_ok=True)


def create_app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["TEST_DATABASE_URL"]
    app.config["SIGNALBUS_RABBITMQ_URL"] = os.environ["TEST_AMQP_URL"]
    app.config["SIGNALBUS_RABBITMQ_TIMEOUT_SECONDS"] = 2
    db.init_app(app)
    failpoints.switch_on(act_at)
    return app


if __name__ == "__main__":
    with create_app().app_context():
        db.create_all()
