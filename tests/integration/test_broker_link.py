"""What several workers know of one broker is told once."""

from __future__ import annotations

import logging

import pytest

from relay.announce import Announcer
from relay.broker import BrokerLink
from relay.health import Health
from relay.metrics import Metrics
from signalbus_core.rabbitmq import Publisher


def test_a_worker_that_cannot_connect_while_another_is_connected_is_no_outage(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "test.broker")

    def told() -> list[str]:
        return [record.levelname for record in caplog.records if record.name == "test.broker"]

    metrics, health, announcer = Metrics(), Health(60), Announcer(logging.getLogger("test.broker"))
    with Publisher(url=amqp_url) as good, Publisher(url=amqp_url.replace(":guest@", ":wrong@")) as bad:
        connected = BrokerLink("worker-1", [good], metrics, health, announcer)
        refused = BrokerLink("worker-2", [bad], metrics, health, announcer)
        for _ in range(3):
            assert connected.is_ready()
            assert not refused.is_ready()
        assert told() == []
        assert health.broker() == "up"

        good.disconnect()
        assert not refused.is_ready()
        health.set_broker("worker-1", "down", "gone", str(good.location))
        for _ in range(3):
            assert not refused.is_ready()
        assert told() == ["WARNING"]
        assert connected.is_ready()
        assert told() == ["WARNING", "INFO"]
