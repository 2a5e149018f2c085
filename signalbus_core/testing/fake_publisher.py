"""A publisher that sends to a broker in memory. All but the connection is the real publisher's own code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from ..rabbitmq import Publisher
from ..rabbitmq.amqp.protocol import Link
from .fake_broker import FakeBroker
from .fake_link import FakeLink

#: Where the application names no broker.
URL = "amqp://guest:guest@fake-broker/"


class FakePublisher(Publisher):
    """Publishes to a :class:`FakeBroker` instead of RabbitMQ.

    Messages are checked, encoded and answered for as they are with the real broker: what is invalid there is invalid
    here, and every error is the same. Time limits are not waited for.

    :param app: the application; its RabbitMQ signals are sent through this publisher from then on.
    :param broker: where the messages go; a new one when not given.
    """

    def __init__(self, app: Flask | None = None, *, broker: FakeBroker | None = None, url: str | None = None) -> None:
        self.broker = broker or FakeBroker()
        if url is None and app is not None:
            url = app.config.get("SIGNALBUS_RABBITMQ_URL")
        super().__init__(url=url or URL)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Register with the application, in the place of the publisher that it has."""
        super().init_app(app)
        app.extensions["signalbus_rabbitmq"] = self

    @contextmanager
    def installed(self, app: Flask) -> Iterator[FakePublisher]:
        """Stand in for the publisher of an application, until the block ends.

        A publisher that a send method of the application's own holds in a variable is not replaced; set the variable.
        """
        before = {name: app.extensions.get(name) for name in ("signalbus_rabbitmq", "signalbus_publishers")}
        app.extensions["signalbus_publishers"] = []
        self.init_app(app)
        try:
            yield self
        finally:
            for name, value in before.items():
                if value is None:
                    app.extensions.pop(name, None)
                else:
                    app.extensions[name] = value
            self.close()

    def _connect(self, timeout_seconds: float) -> Link:
        return FakeLink(self.location, self.broker)
