"""Outbox tables without an application, relayed by the real command."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from signalbus_core import doorbell_sql, parked_table_sql
from signalbus_core.rabbitmq import outbox_table_sql
from tests.support.broker import Broker, Received
from tests.support.processes import COMMAND, RelayProcess
from tests.support.waiting import eventually


class Outboxes:
    """A database with outbox tables, an exchange with a queue, and relays without an application."""

    def __init__(self, directory: Path, database_url: str, broker: Broker) -> None:
        self.directory = directory
        self.broker = broker
        self.engine = sa.create_engine(database_url)
        self.exchange = broker.exchange()
        self.queue = broker.queue(self.exchange)
        # As users write it: without a driver.
        self.database_url = database_url.replace("+psycopg2", "")
        self.environ = {"DATABASE_URL": self.database_url, "AMQP_URL": broker.url}
        self._stack = contextlib.ExitStack()

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))

    def insert(self, table: str, columns: str = "exchange, routing_key, body", values: str = "'{x}', 'k', '1'") -> None:
        self.execute(f"INSERT INTO {table} ({columns}) VALUES ({values.replace('{x}', self.exchange)})")

    def count(self, table: str) -> int:
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() or 0)

    def wait_until_empty(self, table: str, timeout_seconds: float = 60) -> None:
        eventually(lambda: self.count(table) == 0, timeout_seconds, f"{table} is empty")

    def relay(self, *arguments: str, **environ: str) -> RelayProcess:
        relay = RelayProcess(self.directory, "--poll-interval", "0.2", *arguments, environ={**self.environ, **environ})
        return self._stack.enter_context(relay)

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself."""
        return subprocess.run(
            [COMMAND, *arguments],
            env={**os.environ, **self.environ, **environ},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    def send(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Send what is pending."""
        return self.run("run", "--until-empty", "--http", "off", *arguments, **environ)

    def received(self) -> list[Received]:
        return self.broker.take_all(self.queue)

    def close(self) -> None:
        self._stack.close()
        self.engine.dispose()


@pytest.fixture
def outboxes(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[Outboxes]:
    outboxes = Outboxes(tmp_path, database_url, broker)
    yield outboxes
    outboxes.close()


def test_a_table_as_it_is_printed_is_relayed_woken_by_its_doorbell(outboxes: Outboxes) -> None:
    printed = outboxes.run("ddl", "outbox", "orders_outbox").stdout
    outboxes.execute(printed, *doorbell_sql("orders_outbox"))
    relay = outboxes.relay("--table", "orders_outbox", "--poll-interval", "60")
    relay.wait_for_log("doorbell_answered", 30)
    outboxes.insert(
        "orders_outbox", "exchange, routing_key, body_json, headers", "'{x}', 'k', '{\"a\": 1}', '{\"t\": 7}'"
    )
    outboxes.wait_until_empty("orders_outbox", 30)
    [message] = outboxes.received()
    assert (message.text, message.properties.headers) == ('{"a": 1}', {"t": 7})
    assert (message.properties.message_id, message.properties.type) == ("orders_outbox:1", "orders_outbox")
    assert message.properties.content_type == "application/json"
    assert 'signalbus_signals_sent_total{signal="orders_outbox"} 1.0' in relay.get("/metrics")[1]
