"""The services of docker-compose.yml that are ours, as plain processes: the shop, its customers, and a relay."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.support.guardian import guardian
from tests.support.processes import RelayProcess
from tests.support.waiting import eventually

from .tools import ROOT


@contextmanager
def service(log: Path, *arguments: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environ,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    guardian.watch("group", process.pid)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        guardian.release("group", process.pid)


def answers(port: int) -> bool:
    with closing(socket.socket()) as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def order_in_a_browser(shop: str) -> None:
    """Send the form of the page; the page that follows shows the order, whose signal waits as long as no relay runs."""
    form = urllib.parse.urlencode({"item": "<tea>", "quantity": "2"}).encode()
    with urllib.request.urlopen(f"{shop}/orders", data=form, timeout=10) as answer:
        assert answer.url == f"{shop}/"
        page = answer.read().decode()
    assert re.search(r"<td>&lt;tea&gt;</td><td>2</td>\s*<td>waits</td>", page)


def test_every_order_that_the_shop_takes_arrives(tmp_path: Path, database_url: str, empty_amqp_url: str) -> None:
    environ = {"PYTHONPATH": str(ROOT)}
    for name, value in {"SHOP_DATABASE_URL": database_url, "SHOP_RABBITMQ_URL": empty_amqp_url}.items():
        (tmp_path / name).write_text(f"{value}\n")
        environ[f"{name}_FILE"] = str(tmp_path / name)
    port = free_port()
    traffic = tmp_path / "traffic.log"
    with ExitStack() as stack:
        shop = stack.enter_context(
            service(tmp_path / "shop.log", "deploy.demo.serve", f"127.0.0.1:{port}", environ=environ)
        )
        eventually(lambda: answers(port), 30, "the shop takes orders")
        order_in_a_browser(f"http://127.0.0.1:{port}")
        relay = RelayProcess(tmp_path, "--app", "deploy.demo.shop:create_app", environ=environ)
        stack.enter_context(relay)
        customers = stack.enter_context(
            service(traffic, "deploy.demo.traffic", f"http://127.0.0.1:{port}", "200", environ=environ)
        )
        relay.wait_for_log("started")
        eventually(lambda: 'signalbus_signals_sent_total{signal="OrderPlaced"} 0' not in relay.get("/metrics")[1], 30)
        customers.send_signal(signal.SIGTERM)
        assert customers.wait(90) == 0, traffic.read_text()
        relay.terminate()
        shop.terminate()
        assert (relay.wait(), shop.wait(30)) == (0, 0)
    report = json.loads(traffic.read_text().splitlines()[-1])
    assert report["placed"] > 0
    nothing = {"on_the_way": 0, "duplicates": 0, "unanswered": 0}
    assert report == report | nothing | {"received": report["placed"], "of_others": 1}


def test_an_order_without_its_message_is_missing_in_the_end() -> None:
    program = (
        "from relay.drill.oracle import Oracle\n"
        "from deploy.demo import traffic\n"
        "traffic.PATIENCE_SECONDS = 0.2\n"
        "ledger = Oracle()\n"
        "ledger.note_committed([1, 2], 0.0)\n"
        "ledger.note_arrival(1, 0.0)\n"
        "traffic.wait_for_the_rest(ledger)\n"
        "traffic.report(ledger, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["on_the_way"] == 1
