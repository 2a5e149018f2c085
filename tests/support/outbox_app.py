"""The application of a test: Flask, a database with the bus, and signal models; made in one place, in one way.

A test's own application derives from :class:`OutboxApp`, adds its models, and calls :meth:`OutboxApp.create`.
Applications that relays import as processes of their own are files, and stand by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import SignalBusMixin
from signalbus_core.lowlevel import BurstResult, SignalSpec, send_burst
from signalbus_core.rabbitmq import Message, RabbitMQSignal


class Database(SignalBusMixin, SQLAlchemy):
    """The database of an application that has signals."""


def make_app(database_url: str, *, engine: Mapping[str, Any] | None = None, **config: Any) -> tuple[Flask, Database]:
    """An application and its database.

    :param engine: options of its engine.
    :param config: further configuration, as ``SIGNALBUS_RABBITMQ_URL``.
    """
    app = Flask("outbox")
    app.config.update(SQLALCHEMY_DATABASE_URI=database_url, **config)
    if engine:
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = dict(engine)
    return app, Database(app)


class OutboxApp:
    """An application with signal models. Each model's primary key is ``id``.

    :param engine: options of its engine.
    :param config: further configuration.
    """

    def __init__(self, database_url: str, *, engine: Mapping[str, Any] | None = None, **config: Any) -> None:
        self.database_url = database_url
        self.app, self.db = make_app(database_url, engine=engine, **config)
        # Kept, because SQLAlchemy keeps no class that nobody else does.
        self.models: dict[str, Any] = {}
        self._specs: dict[Any, SignalSpec] = {}

    def model(self, name: str, send: Callable[[Any], None] | None = None, **members: Any) -> Any:
        """Add a signal model.

        :param send: what sends one of its signals; without it, nothing happens to them.
        :param members: its columns and settings beside ``id``; its ``id``, where that is no integer of the test's own.
        """
        key = sa.Column(sa.BigInteger, primary_key=True, autoincrement=False)
        sending = {"send_signalbus_message": send or (lambda self: None)}
        return self._add(name, (self.db.Model,), {"id": key, **sending, **members})

    def rabbitmq_model(self, name: str, message: Callable[[Any], Message], **members: Any) -> Any:
        """Add a signal model that is sent to RabbitMQ.

        :param message: makes the message of a signal.
        """
        key = sa.Column(sa.BigInteger, primary_key=True, autoincrement=False)
        members = {"id": key, "signalbus_message": message, **members}
        return self._add(name, (RabbitMQSignal, self.db.Model), members)

    def _add(self, name: str, bases: tuple[Any, ...], members: dict[str, Any]) -> Any:
        model = type(name, bases, members)
        self.models[name] = model
        return model

    def create(self) -> None:
        """Make the tables of its models."""
        with self.app.app_context():
            self.db.create_all()

    def execute(self, *statements: str) -> None:
        """Run statements in a transaction of their own."""
        with self.app.app_context(), self.db.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def write(self, model: Any, *ids: int, **values: Any) -> None:
        """Commit signals with these keys, all with the same values."""
        with self.app.app_context():
            self.db.session.execute(sa.insert(model), [{"id": number, **values} for number in ids])
            self.db.session.commit()

    def left(self, model: Any) -> list[int]:
        """The keys of the signals that are in the table."""
        with self.app.app_context():
            return list(self.db.session.scalars(sa.select(model.id).order_by(model.id)))

    def spec(self, model: Any) -> SignalSpec:
        """What a relay knows of a model. It is the same one each time: what is prepared for a model is kept with it."""
        if model not in self._specs:
            with self.app.app_context():
                [self._specs[model]] = self.db.signalbus.specs([model])
        return self._specs[model]

    def burst(self, model: Any, **arguments: Any) -> BurstResult:
        """Send a burst, as ``send_burst`` does with these arguments."""
        spec = self.spec(model)
        with self.app.app_context():
            return send_burst(self.db.session(), spec, **arguments)

    def close(self) -> None:
        with self.app.app_context():
            self.db.engine.dispose()
