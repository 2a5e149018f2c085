"""From the relay's metrics to the alert, through a real Prometheus, while a real broker goes and comes back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.deployment import RULES
from tests.support.prometheus import PrivatePrometheus
from tests.support.rabbitmq import PrivateRabbitMQ
from tests.support.shop import Shop
from tests.support.waiting import eventually

from .tools import program


@pytest.fixture
def rabbitmq_of_its_own() -> Iterator[PrivateRabbitMQ]:
    with PrivateRabbitMQ() as server:
        yield server.start()


def without_patience() -> str:
    """The rules as they are, but each alert fires as soon as it has been true for a second."""
    text, count = re.subn(r"^( *for): \S+$", r"\1: 1s", RULES.read_text(), flags=re.MULTILINE)
    assert count
    return text


def check_metrics(scraped: str) -> None:
    command = [program("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=scraped, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_alert_fires_while_broker_is_away_and_resolves_later(
    tmp_path: Path, database_url: str, rabbitmq_of_its_own: PrivateRabbitMQ
) -> None:
    broker = Broker(rabbitmq_of_its_own.url)
    shop = Shop(tmp_path, database_url, broker)
    try:
        relays = [shop.relay(), shop.relay()]
        for relay in relays:
            relay.wait_ready()
        shop.write(1, 3)
        shop.wait_until_sent()
        broker.close()
        check_metrics(relays[0].get("/metrics")[1])
        with PrivatePrometheus([relay.port for relay in relays], without_patience()) as prometheus:
            eventually(lambda: len(prometheus.query("up == 1")) == 2, 60, "both relays are scraped")
            assert "SignalbusBrokerDown" not in prometheus.alerts()
            rabbitmq_of_its_own.kill9()
            eventually(lambda: prometheus.alerts().get("SignalbusBrokerDown") == "firing", 60, "the alert fires")
            assert "SignalbusRelayDown" not in prometheus.alerts()
            rabbitmq_of_its_own.start()
            eventually(lambda: "SignalbusBrokerDown" not in prometheus.alerts(), 90, "the alert is resolved")
    finally:
        shop.close()
