"""An application of a user, in a directory of its own, and relays beside it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa

from . import prefork
from .broker import Broker
from .processes import COMMAND, RelayProcess
from .proxy import FaultProxy
from .waiting import eventually

APPLICATION = '''
import os
import threading
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import SignalBusMixin
from signalbus_core.rabbitmq import Message, RabbitMQSignal


class Database(SignalBusMixin, SQLAlchemy):
    pass


db = Database()


class Sent(RabbitMQSignal, db.Model):
    __abstract__ = True
    signalbus_exchange = os.environ["TEST_EXCHANGE"]
    signalbus_burst_count = 50

    def signalbus_message(self):
        return Message(None, self.routing_key, self.body)

    @classmethod
    def send_signalbus_messages(cls, signals):
        super().send_signalbus_messages(signals)
        pause("confirmed")


class Order(Sent):
    id = db.Column(db.Integer, primary_key=True)
    routing_key = db.Column(db.Text, nullable=False)
    body = db.Column(db.Text, nullable=False)


class Invoice(Sent):
    id = db.Column(db.Integer, primary_key=True)
    routing_key = db.Column(db.Text, nullable=False)
    body = db.Column(db.Text, nullable=False)


def pause(place):
    """Where a test asks for it, say that this place is reached, and wait until the test lets go."""
    if Path(f"pause-{place}").exists():
        Path(f"reached-{place}").touch()
        while Path(f"pause-{place}").exists():
            threading.Event().wait(0.01)


def create_app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["TEST_DATABASE_URL"]
    app.config["SIGNALBUS_RABBITMQ_URL"] = os.environ["TEST_AMQP_URL"]
    app.config["SIGNALBUS_RABBITMQ_TIMEOUT_SECONDS"] = 5
    app.config.from_prefixed_env("SHOP")
    db.init_app(app)

    return app
'''


class Shop:
    """The application, its tables, its exchange with a queue, and its relays."""

    def __init__(self, directory: Path, database_url: str, broker: Broker) -> None:
        self.directory = directory
        self.broker = broker
        (directory / "shop.py").write_text(APPLICATION)
        self.engine = sa.create_engine(database_url)
        for table in ("order", "invoice"):
            self.execute(
                f'CREATE TABLE "{table}" (id serial PRIMARY KEY, routing_key text NOT NULL, body text NOT NULL,'
                " signalbus_id uuid DEFAULT gen_random_uuid())"
            )
        exchange = broker.exchange()
        self.queue = broker.queue(exchange, "wanted")
        self.environ = {"TEST_DATABASE_URL": database_url, "TEST_AMQP_URL": broker.url, "TEST_EXCHANGE": exchange}
        self._stack = contextlib.ExitStack()

    def execute(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def write(self, first: int, last: int, table: str = "order", routing_key: str = "wanted") -> None:
        """Write signals whose bodies are the numbers from ``first`` to ``last``."""
        self.execute(
            f'INSERT INTO "{table}" (routing_key, body) '
            f"SELECT '{routing_key}', n::text FROM generate_series({first}, {last}) n"
        )

    def left(self, table: str = "order") -> int:
        with self.engine.connect() as connection:
            return int(connection.scalar(sa.text(f'SELECT count(*) FROM "{table}"')) or 0)

    def relay(self, *arguments: str, **environ: str) -> RelayProcess:
        """Start a relay."""
        relay = RelayProcess(
            self.directory,
            *("--app", "shop:create_app", "--poll-interval", "0.2", *arguments),
            environ=self.environ | environ,
        )
        return self._stack.enter_context(relay)

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command about the application to its end."""
        command = [COMMAND, *arguments, "--app", "shop:create_app"]
        return prefork.run(command, os.environ | self.environ | environ, self.directory)

    def received(self) -> list[int]:
        """The bodies in the queue; they are taken out of it."""
        return [int(message.text) for message in self.broker.take_all(self.queue)]

    def wait_until_sent(self, timeout_seconds: float = 30) -> None:
        eventually(lambda: self.left("order") + self.left("invoice") == 0, timeout_seconds, "all signals are sent")

    @contextlib.contextmanager
    def paused(self, place: str) -> Iterator[Callable[[], None]]:
        """Hold relays at a place; gives a function that waits until one is there. At the end they are let go."""
        marker, reached = self.directory / f"pause-{place}", self.directory / f"reached-{place}"
        marker.touch()
        try:
            yield lambda: eventually(reached.exists, 20, f"a relay at {place}") and None
        finally:
            marker.unlink()
            reached.unlink(missing_ok=True)

    def close(self) -> None:
        self._stack.close()
        self.engine.dispose()


def behind(url: str) -> tuple[FaultProxy, str]:
    """A proxy in front of a server, and the URL that leads through it."""
    parts = urlsplit(url.replace("+psycopg2", ""))
    proxy = FaultProxy(parts.hostname or "", parts.port or 0)
    return proxy, url.replace(f":{parts.port}", f":{proxy.port}")
