"""What check finds at a broker, made real: each time one thing is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relay.checks import versions
from relay.checks.broker import broker_problem
from relay.commands.check import as_json
from signalbus_core.rabbitmq import Publisher
from tests.support.amqp_peer import AmqpPeer
from tests.support.broker import Broker
from tests.support.checked import Checked
from tests.support.rabbitmq import PrivateRabbitMQ
from tests.support.waiting import eventually


@pytest.fixture
def sending(database_url: str, broker: Broker) -> Callable[..., Checked]:
    """Gives an application that sends to an exchange, with pending signals of these routing keys."""

    def of(exchange: str, *keys: str) -> Checked:
        checked = Checked(database_url, broker.url, exchange).create()
        for key in keys:
            checked.execute(f"INSERT INTO \"order\" (body) VALUES ('{key}')")
        return checked

    return of


def test_a_route_is_proved_by_a_probe_alone(sending: Callable[..., Checked], broker: Broker) -> None:
    exchange = broker.exchange()
    queue = broker.queue(exchange, "wanted")
    checked = sending(exchange)
    assert checked.codes("broker") == {"route-unproved", "area-fine"}
    assert broker.take_all(queue) == []
    assert checked.codes("broker", send_probe=True) == {"area-fine"}
    # It has expired, unless the queue was asked at once.
    assert all(
        (message.body, message.properties.type) == (b"", "signalbus.check") for message in broker.take_all(queue)
    )
    broker.unbind(queue, exchange, "wanted")
    assert checked.codes("broker", send_probe=True) == {"route-missing"}


def test_a_queue_that_is_full_is_told_by_a_probe(sending: Callable[..., Checked], broker: Broker) -> None:
    exchange = broker.exchange()
    queue = broker.queue(exchange, "wanted", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    with broker.channel as channel:
        channel.confirm_delivery()
        channel.basic_publish(exchange, "wanted", b"")
    assert sending(exchange).codes("broker", send_probe=True) == {"route-refused"}
    assert broker.count(queue) == 1


def test_look_reaches_no_consumer_when_all_messages_are_wanted(sending: Callable[..., Checked], broker: Broker) -> None:
    exchange = broker.exchange("fanout")
    queue = broker.queue(exchange)
    received: list[bytes] = []
    with broker.channel as channel:
        channel.basic_consume(queue, lambda *delivery: received.append(delivery[-1]), auto_ack=True)
        assert sending(exchange).codes("broker") == {"route-unproved", "area-fine"}
        # What had been sent before would come first.
        channel.basic_publish(exchange, "wanted", b"the first")
        eventually(lambda: channel.connection.process_data_events(0.1) or received, 30, "a message comes")
    assert received == [b"the first"]


def test_the_keys_of_pending_signals_are_looked_at(sending: Callable[..., Checked], broker: Broker) -> None:
    queue = broker.queue()
    checked = sending("", "no-such-queue")
    assert checked.codes("broker") == {"queue-missing"}
    checked.execute(f"UPDATE \"order\" SET body = '{queue}'")
    assert checked.codes("broker") == {"area-fine"}
    assert broker.count(queue) == 0


def test_missing_and_internal_exchanges_are_told_apart(sending: Callable[..., Checked], broker: Broker) -> None:
    assert sending("no-such-exchange").codes("broker") == {"exchange-missing"}
    assert sending(broker.exchange(internal=True)).codes("broker") == {"exchange-refused"}


def test_a_pending_signal_without_a_message_is_told_and_its_payload_is_not(sending: Callable[..., Checked]) -> None:
    findings = sending("", "bad card 4711-0815").find("broker")
    assert {finding.code for finding in findings} == {"message-fails", "queue-missing"}
    assert "4711" not in "".join(map(as_json, findings))


def test_a_routing_key_that_no_message_can_have_is_told(sending: Callable[..., Checked]) -> None:
    assert sending("", "k" * 256).codes("broker") == {"message-fails", "queue-missing"}


def test_a_refused_login_and_a_missing_virtual_host_are_told(database_url: str, amqp_url: str) -> None:
    wrong = amqp_url.replace(":guest@", ":geheim@")
    assert Checked(database_url, wrong).codes("broker") == {"broker-login"}
    assert Checked(database_url, amqp_url.rsplit("/", 1)[0] + "/no-such-host").codes("broker") == {"broker-vhost"}


def test_a_node_that_takes_no_connection_is_told(database_url: str, amqp_url: str, broker: Broker) -> None:
    refused = amqp_url.replace(":guest@", ":geheim@")
    nowhere = f"amqp://guest:geheim@nowhere.invalid/{amqp_url.rpartition('/')[2]}"
    findings = Checked(database_url, f"{refused},{amqp_url},{nowhere}").find("broker", "versions")
    assert [(one.code, one.level, one.problem.split(":")[0]) for one in findings if one.code == "broker-node"] == [
        ("broker-node", "warning", "the login was refused"),
        ("broker-node", "warning", "the host name cannot be resolved"),
    ]
    assert "area-unreachable" not in {one.code for one in findings}
    assert Checked(database_url, f"{refused},{nowhere}").codes("broker") == {"broker-login", "broker-unreachable"}


def test_tls_where_there_is_none_is_told(database_url: str, amqp_url: str) -> None:
    findings = Checked(database_url, amqp_url.replace("amqp:", "amqps:")).find("broker")
    assert [(finding.code, finding.problem) for finding in findings] == [
        ("broker-unreachable", "TLS failed: what listens there does not speak TLS")
    ]


def test_an_alarm_in_force_is_told(database_url: str, private_rabbitmq: PrivateRabbitMQ) -> None:
    checked = Checked(database_url, private_rabbitmq.url, "")
    private_rabbitmq.block_publishers()
    try:
        eventually(lambda: checked.codes("broker") == {"broker-blocked"}, 30, "the alarm is told")
        assert "it takes no messages: low on" in checked.find("broker")[0].problem
    finally:
        private_rabbitmq.unblock_publishers()
    eventually(lambda: "broker-blocked" not in checked.codes("broker"), 30, "the alarm is over")


def test_an_alarm_is_named_by_its_name() -> None:
    with AmqpPeer(lambda session, _message: session.block("low on disk")) as peer, Publisher(url=peer.url) as publisher:
        finding = broker_problem(publisher)
    assert finding is not None
    assert (finding.code, finding.problem) == ("broker-blocked", "it takes no messages: low on disk")


def test_the_version_of_the_broker_is_judged(database_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Checked(database_url, amqp_url)
    monkeypatch.setattr(versions, "OLDEST_RABBITMQ", (3, 0))
    assert "rabbitmq-out-of-support" not in checked.codes("versions")
    monkeypatch.setattr(versions, "OLDEST_RABBITMQ", (99, 0))
    [finding] = [finding for finding in checked.find("versions") if finding.code == "rabbitmq-out-of-support"]
    assert finding.subject.startswith("RabbitMQ ")


def test_too_few_channels_are_found(database_url: str, broker: Broker) -> None:
    assert Checked(database_url, f"{broker.url}?channel_max=1").create().codes("broker") == {"broker-channels"}
