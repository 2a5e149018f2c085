"""The processes and threads of the demo: relays by the real command, customers, and a consumer.

Processes are made known to the guardian, which ends them also when the demo itself is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import Basic, BasicProperties

from tests.support.guardian import guardian

from .ledger import Ledger

#: A process that does not end by itself within so many seconds is killed.
ENDING_SECONDS = 40.0

QUEUE = "demo"


class Relay:
    """A relay process, started with the command that users start."""

    def __init__(self, number: int, environ: Mapping[str, str], directory: Path) -> None:
        self.number = number
        self._environ = dict(environ)
        self._log_path = directory / f"relay-{number}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def start(self) -> None:
        self._starts += 1
        command = [Path(sys.executable).with_name("signalbus-relay"), "run"]
        options = ["--app", "deploy.demo.shop:create_app", "--http", "127.0.0.1:0", "--log-level", "INFO"]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *options], env=self._environ, stdout=log, stderr=log, start_new_session=True
            )
        guardian.watch("group", self._process.pid)

    def kill(self) -> None:
        """SIGKILL, as a node that dies would do."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            guardian.release("group", self._process.pid)

    def is_up(self) -> bool:
        """Whether the process that was started last has begun to relay."""
        return self.log().count("action=started") == self._starts

    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> int:
        """SIGTERM, as an orderly shutdown would do; return the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def log(self) -> str:
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""


class Customers:
    """The process that places orders; a thread notes in the ledger what it tells."""

    def __init__(self, number_of_orders: int, environ: Mapping[str, str], ledger: Ledger, directory: Path) -> None:
        self._ledger = ledger
        self._errors = (directory / "customers.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "deploy.demo.customers", str(number_of_orders)],
            env=dict(environ),
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        guardian.watch("group", self._process.pid)
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), name="customers")
        self._reader.start()

    def _read(self, output: IO[bytes]) -> None:
        for line in output:
            what, order_id, when = line.split()
            if what == b"committed":
                self._ledger.order_committed(int(order_id), float(when))
            else:
                self._ledger.order_rolled_back()

    def have_finished(self) -> bool:
        return self._process.poll() is not None and not self._reader.is_alive()

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        guardian.release("group", self._process.pid)
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


class Consumer:
    """A thread that receives messages, and notes them in the ledger."""

    def __init__(self, amqp_url: str, ledger: Ledger) -> None:
        self._amqp_url = amqp_url
        self._ledger = ledger
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer")
        self._thread.start()

    def _run(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._amqp_url))
        try:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=500)
            channel.basic_consume(QUEUE, self._receive)
            while not self._stop.is_set():
                connection.process_data_events(time_limit=0.2)
        finally:
            connection.close()

    def _receive(
        self, channel: BlockingChannel, delivery: Basic.Deliver, _properties: BasicProperties, body: bytes
    ) -> None:
        self._ledger.message_arrived(json.loads(body)["order_id"], time.time())
        channel.basic_ack(delivery.delivery_tag)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def shop_environment(database_url: str, amqp_url: str) -> dict[str, str]:
    """The environment of the shop's processes and of its relays."""
    return os.environ | {"SHOP_DATABASE_URL": database_url, "SHOP_RABBITMQ_URL": amqp_url}
