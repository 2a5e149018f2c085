"""A publisher that sends to a broker in memory. Everything except the connection is the real publisher's code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from ..rabbitmq import Publisher
from ..rabbitmq.amqp.protocol import Link
from ..rabbitmq.amqp.url import BrokerNode
from .fake_broker import FakeBroker
from .fake_link import FakeLink

#: Used when the application configures no broker.
URL = "amqp://guest:guest@fake-broker/"


class FakePublisher(Publisher):
    """Publishes to a :class:`FakeBroker` instead of RabbitMQ.

    Messages are checked, encoded and confirmed as with the real broker: the same messages are invalid, and every error
    is the same. Timeouts expire at once.

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
        """Register with the application, instead of its present publisher."""
        super().init_app(app)
        app.extensions["signalbus_rabbitmq"] = self

    @contextmanager
    def installed(self, app: Flask) -> Iterator[FakePublisher]:
        """Replace the publisher of an application until the block ends.

        A publisher that the application's own send method has in a variable is not replaced; set the variable.
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

    def _connect(self, node: BrokerNode, timeout_seconds: float) -> Link:
        return FakeLink(node, self.broker)
