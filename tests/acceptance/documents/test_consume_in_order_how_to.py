"""The how-to about order at consumers, word by word: they are killed at work, and each account is in order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pika
import pytest
import sqlalchemy as sa
from pika.exceptions import AMQPError

from signalbus_core.testing import assert_order
from tests.support.broker import Broker
from tests.support.guardian import guardian
from tests.support.outbox_app import make_app
from tests.support.waiting import eventually

PAGE = (Path(__file__).parents[3] / "docs/how-to/consume-in-order.md").read_text()

MODEL, LEDGER, ONE_QUEUE, SEVERAL_QUEUES, CONSUMER, IN_TESTS = re.findall(
    r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)

ACCOUNTS, MESSAGES = 7, 120


class Service:
    """The modules of the page in a directory, with names of its own, and two consumers."""

    def __init__(self, directory: Path, queues: str, environ: dict[str, str]) -> None:
        self.mark = uuid4().hex[:8]
        named = re.sub(r'"(accounts|ledger(?:-\d)?)"', rf'"\1-{self.mark}"', queues)
        for name, text in {"ledger": LEDGER, "queues": named, "consumer": CONSUMER}.items():
            (directory / f"{name}.py").write_text(text)
        self._directory, self._environ = directory, os.environ | environ
        self.exchange = f"accounts-{self.mark}"
        self.queues = [f"{name}-{self.mark}" for name in re.findall(r'"(ledger[-\d]*)"', queues)]
        self.consumers: list[subprocess.Popen[bytes]] = []

    def prepare(self) -> None:
        code = "import ledger, queues; ledger.metadata.create_all(ledger.engine); queues.declare()"
        command = [sys.executable, "-c", code]
        subprocess.run(command, cwd=self._directory, env=self._environ, check=True, timeout=60)

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "consumer.py"],
                cwd=self._directory,
                env=self._environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        guardian.watch("group", process.pid)
        self.consumers.append(process)

    def kill_first(self) -> None:
        process = self.consumers.pop(0)
        process.kill()
        process.wait()
        guardian.release("group", process.pid)


@pytest.fixture
def service(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str, amqp_url: str, broker: Broker
) -> Iterator[Service]:
    service = Service(tmp_path, request.param, {"DATABASE_URL": database_url, "RABBITMQ_URL": amqp_url})
    yield service
    while service.consumers:
        service.kill_first()
    with broker.channel as channel:
        for queue in service.queues:
            channel.queue_delete(queue)
        channel.exchange_delete(service.exchange)


def has_consistent_hash(broker: Broker) -> bool:
    name = f"x-{uuid4().hex[:8]}"
    try:
        with broker.channel as channel:
            channel.exchange_declare(name, exchange_type="x-consistent-hash", auto_delete=True)
            channel.exchange_delete(name)
    except AMQPError:
        return False
    return True


@pytest.mark.parametrize("service", [ONE_QUEUE, SEVERAL_QUEUES], ids=["one queue", "several queues"], indirect=True)
def test_killed_consumers_process_each_account_in_order(service: Service, broker: Broker, database_url: str) -> None:
    if len(service.queues) > 1 and not has_consistent_hash(broker):
        pytest.skip("The broker has no plugin rabbitmq_consistent_hash_exchange.")
    service.prepare()
    engine = sa.create_engine(database_url)

    def recorded() -> list[tuple[int, int]]:
        with engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT account, amount FROM entry ORDER BY id"))
            return [(account, amount) for account, amount in rows]

    service.start()
    service.start()
    with broker.channel as channel:
        channel.confirm_delivery()
        for number in range(MESSAGES):
            account = number % ACCOUNTS
            body = json.dumps({"account": account, "amount": number}).encode()
            # As after a crash of a relay: every fifth message is there twice.
            for _ in range(2 if number % 5 == 0 else 1):
                properties = pika.BasicProperties(message_id=str(number), delivery_mode=2)
                channel.basic_publish(service.exchange, str(account), body, properties, mandatory=True)
    for part in (0.1, 0.4, 0.7):
        eventually(lambda part=part: len(recorded()) >= MESSAGES * part, 60, every_seconds=0.002)  # type: ignore[misc]
        service.kill_first()
        service.start()
    eventually(lambda: len(recorded()) >= MESSAGES, 60, "all are recorded")
    found = recorded()
    assert sorted(amount for _, amount in found) == list(range(MESSAGES))
    assert_order(found, key=lambda one: one[0], position=lambda one: one[1])
    engine.dispose()


def test_the_model_of_the_page_is_ordered_by_its_routing_key(database_url: str) -> None:
    app, db = make_app(database_url)
    exec(MODEL, scope := {"db": db})  # noqa: S102
    signal = scope["AccountChanged"](account_id=7, amount=5)
    assert signal.signalbus_message().routing_key == "7"
    with app.app_context():
        [spec] = db.signalbus.specs([scope["AccountChanged"]])
        assert spec.order is not None
        assert [column.name for column in spec.order.by] == ["account_id"]
    exec(IN_TESTS, {"received": [{"account": 1, "version": 1}, {"account": 1, "version": 2}]})  # noqa: S102
