"""An application with one signal model, and what ``signalbus-relay check`` finds wrong with it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from relay.application.load import find_broker, find_bus
from relay.checks.finding import KINDS, Finding
from relay.checks.run import Subject, find_problems
from relay.config.resolve import resolve
from signalbus_core.rabbitmq import Message, RabbitMQSignal

from .outbox_app import make_app


class Checked:
    """The application.

    :param exchange: of its signals.
    :param options: of its engine.
    """

    def __init__(self, database_url: str, amqp_url: str, exchange: str | None = None, **options: Any) -> None:
        self.database_url, self.amqp_url = database_url, amqp_url
        self.app, self.db = make_app(database_url, engine=options, SIGNALBUS_RABBITMQ_URL=amqp_url)

        class Order(RabbitMQSignal, self.db.Model):  # type: ignore[name-defined]
            signalbus_exchange = exchange
            signalbus_routing_key = "wanted"
            id = sa.Column(sa.Integer, primary_key=True)
            body = sa.Column(sa.Text)

            def signalbus_message(self) -> Message:
                if self.body and self.body.startswith("bad"):
                    raise ValueError(f"cannot read {self.body}")
                return Message(body=b"", routing_key=self.body)

        self.order = Order

    def find(self, *areas: str, send_probe: bool = False, **settings: str) -> list[Finding]:
        """Check it.

        :param settings: options of the relay, by field.
        """
        loaded = find_bus(self.app, ())
        find_broker(loaded, None)
        subject = Subject(self.app, loaded.bus, resolve({"app": "shop", **settings}, {}), send_probe)
        try:
            return find_problems(subject, areas)
        finally:
            for publisher in self.app.extensions["signalbus_publishers"]:
                publisher.close()
            with self.app.app_context():
                self.db.engine.dispose()

    def codes(self, *areas: str, send_probe: bool = False, **settings: str) -> set[str]:
        """The codes of what is found; all of it says what to do."""
        findings = self.find(*areas, send_probe=send_probe, **settings)
        for finding in findings:
            assert finding.code in KINDS
            assert finding.problem
            assert bool(finding.remedy) == (finding.level != "ok"), finding
        return {finding.code for finding in findings}

    def create(self) -> Checked:
        with self.app.app_context():
            self.db.create_all()
        return self

    def execute(self, *statements: str) -> None:
        engine = sa.create_engine(self.database_url)
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()
