"""The how-to about consumers, word by word: each is killed at work, and its effects are the messages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import pytest
import sqlalchemy as sa

from tests.support import prefork
from tests.support.broker import Broker
from tests.support.guardian import guardian
from tests.support.waiting import eventually

PAGE = (Path(__file__).parents[3] / "docs/how-to/consume.md").read_text()

BILLING, QUEUES, *CONSUMERS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

#: What is started, and the package that it needs.
COMMANDS = {
    "blocking": ("pika", ["python", "consumer.py"]),
    "select": ("pika", ["python", "consumer.py"]),
    "celery": ("celery", [sys.executable, "-m", "celery", "--app", "consumer", "worker", "--pool", "solo"]),
    "aio": ("aio_pika", ["python", "consumer.py"]),
}
MESSAGES = 60


class Consumer:
    """A consumer of the page, in a directory with the modules that it imports."""

    def __init__(self, directory: Path, code: str, command: list[str], environ: dict[str, str]) -> None:
        self.queue = f"billing-{uuid4().hex[:8]}"
        texts = {"billing": BILLING, "queues": QUEUES.replace('"billing"', repr(self.queue)), "consumer": code}
        for name, text in texts.items():
            (directory / f"{name}.py").write_text(text)
        self._directory, self._command, self._environ = directory, command, os.environ | environ
        self.call("import billing, queues; billing.metadata.create_all(billing.engine); queues.declare()")

    def call(self, code: str) -> None:
        prefork.run(["python", "-c", code], self._environ, self._directory, timeout=60).check_returncode()

    def start(self) -> subprocess.Popen[bytes] | prefork.Forked:
        with (self._directory / "log").open("ab") as log:
            if self._command[0] == "python":
                process = prefork.start(self._command, self._environ, self._directory, log, log)
            else:
                process = subprocess.Popen(
                    self._command,
                    cwd=self._directory,
                    env=self._environ,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        guardian.watch("group", process.pid)
        return process

    def log(self) -> str:
        return (self._directory / "log").read_text()


@pytest.fixture
def properties() -> Iterator[Any]:
    return lambda message_id: pika.BasicProperties(message_id=message_id, delivery_mode=2)


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_killed_consumer_has_each_effect_once(
    kind: str, tmp_path: Path, database_url: str, amqp_url: str, broker: Broker, properties: Any
) -> None:
    package, command = COMMANDS[kind]
    if find_spec(package) is None or (kind == "aio" and find_spec("greenlet") is None):
        pytest.skip(f"The consumer of the page needs {package}: pip install -e '.[test]'")
    code = CONSUMERS[list(COMMANDS).index(kind)]
    consumer = Consumer(tmp_path, code, command, {"DATABASE_URL": database_url, "RABBITMQ_URL": amqp_url})
    bodies = [(f"id-{number}", json.dumps({"order_id": number})) for number in range(MESSAGES)]
    poison = [("no-json", "{"), (None, bodies[0][1]), ("no-order", "{}")]
    with broker.channel as channel:
        # Every fifth message is there twice.
        for message_id, body in [*bodies[:20], *poison, *bodies[::5], *bodies[20:]]:
            channel.basic_publish("", consumer.queue, body.encode(), properties(message_id))
    engine = sa.create_engine(database_url)

    def billed() -> list[int]:
        assert process.poll() is None, consumer.log()
        return invoices()

    def invoices() -> list[int]:
        with engine.connect() as connection:
            return list(connection.scalars(sa.text("SELECT order_id FROM invoice ORDER BY order_id")))

    def is_done() -> bool:
        return len(set(billed())) == MESSAGES and broker.count(f"{consumer.queue}.dead") == len(poison)

    process = consumer.start()
    try:
        eventually(billed, 60, every_seconds=0.001)
        process.kill()
        process.wait()
        process = consumer.start()
        eventually(is_done, 60, f"{kind}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, consumer.log()
        # Nothing is left that would be an effect: all was acknowledged, or is not new.
        assert invoices() == list(range(MESSAGES))
        dead = [message.properties.message_id for message in broker.take_all(f"{consumer.queue}.dead")]
        assert sorted(map(str, dead)) == ["None", "no-json", "no-order"]
    finally:
        process.kill()
        process.wait()
        guardian.release("group", process.pid)
        engine.dispose()
        with broker.channel as channel:
            for name in (consumer.queue, f"{consumer.queue}.dead", f"{consumer.queue}.tasks"):
                channel.queue_delete(name)
