"""The processes and threads of the demo: relays by the real command, customers, and a consumer.

Processes are made known to the guardian, which ends them also when the demo itself is killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from relay.drill.load import Consumer
from relay.drill.relay_process import RelayProcess
from tests.support.guardian import guardian

from .ledger import Ledger
from .opening import QUEUE

#: A process that does not end by itself within so many seconds is killed.
ENDING_SECONDS = 40.0


class Relay(RelayProcess):
    """A relay process, started with the command that users start."""

    def __init__(self, number: int, environ: Mapping[str, str]) -> None:
        command = [str(Path(sys.executable).with_name("signalbus-relay")), "run"]
        options = ["--app", "deploy.demo.shop:create_app", "--http", "127.0.0.1:0", "--log-level", "INFO"]
        super().__init__(number, [*command, *options], environ)

    def start(self) -> None:
        super().start()
        if self.pid is not None:
            guardian.watch("group", self.pid)

    def kill(self) -> None:
        super().kill()
        if self.pid is not None:
            guardian.release("group", self.pid)

    def stop(self) -> int:
        """Stop it in good order; return the exit code."""
        self.ask_to_stop()
        return self.wait(ENDING_SECONDS)


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


def order_consumer(amqp_url: str, ledger: Ledger) -> Consumer:
    """A thread that receives messages, and notes them in the ledger."""

    def receive(body: bytes, _redelivered: bool) -> None:
        ledger.message_arrived(json.loads(body)["order_id"], time.time())

    return Consumer(amqp_url, QUEUE, receive)


def shop_environment(database_url: str, amqp_url: str) -> dict[str, str]:
    """The environment of the shop's processes and of its relays."""
    return os.environ | {"SHOP_DATABASE_URL": database_url, "SHOP_RABBITMQ_URL": amqp_url}
