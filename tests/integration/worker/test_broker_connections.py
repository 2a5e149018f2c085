"""What several workers know of one broker is told once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from flask import Flask

from relay.telemetry.incidents import SETTLED_AFTER_SECONDS
from relay.worker.broker_connections import LEFT_ALONE_SECONDS, BrokerConnections
from signalbus_core import PublishError
from signalbus_core.model.sending.progress import ProgressReporter
from signalbus_core.rabbitmq import Message, Publisher, PublisherStatus
from signalbus_core.testing import FakePublisher
from tests.support.amqp_peer import AmqpPeer, Published, Session
from tests.support.clock import Clock
from tests.support.proxy import FaultProxy
from tests.support.recorder import Recorder
from tests.support.waiting import eventually


def test_a_worker_that_cannot_connect_while_another_is_connected_is_no_outage(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "test.broker")

    def told() -> list[str]:
        return [record.levelname for record in caplog.records if record.name == "test.broker"]

    recorder = Recorder(logger="test.broker")
    health, runtime = recorder.health, recorder.runtime
    with Publisher(url=amqp_url) as good, Publisher(url=amqp_url.replace(":guest@", ":wrong@")) as bad:
        connected = BrokerConnections("worker-1", [good], runtime)
        refused = BrokerConnections("worker-2", [bad], runtime)
        for _ in range(3):
            assert connected.maintain()
            assert not refused.maintain()
        assert told() == []
        assert health.broker() == "up"

        good.disconnect()
        assert not refused.maintain()
        health.broker_changed("worker-1", "down", "gone", str(good.location))
        for _ in range(3):
            assert not refused.maintain()
        assert told() == ["WARNING"]
        assert connected.maintain()
        assert told() == ["WARNING", "INFO"]


def test_each_broker_of_application_is_told_of_by_its_location(amqp_url: str) -> None:
    app, other = Flask("shop"), Flask("other")
    app.config.update(HERE=amqp_url, AWAY="amqp://guest:guest@127.0.0.1:1/")
    other.config.update(HERE="amqp://nobody:none@127.0.0.1:1/", AWAY=amqp_url)
    publishers = [Publisher(url_config_key=key) for key in ("HERE", "AWAY")]
    for publisher in publishers:
        publisher.init_app(app)
        publisher.init_app(other)
    recorder = Recorder()
    health = recorder.health
    bound = [publisher.bound_to(app) for publisher in publishers]
    link = BrokerConnections("worker-1", bound, recorder.runtime)
    assert link.maintain()
    assert {location: known.condition for location, known in health.brokers().items()} == {
        str(bound[0].location): "up",
        "amqp://guest@127.0.0.1:1/%2F": "down",
    }
    link.close()


def test_workers_use_the_nodes_that_take_them_and_tell_which(amqp_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    other = amqp_url.replace("127.0.0.1", "localhost")
    nowhere = f"amqp://guest:geheim@nowhere.invalid/{amqp_url.rpartition('/')[2]}"
    urls = [amqp_url.replace(":guest@", ":geheim@"), amqp_url, nowhere, other]
    recorder = Recorder(logger="test.broker")
    with Publisher(url=",".join(urls)) as publisher:
        workers = [BrokerConnections(f"worker-{n}", [publisher], recorder.runtime) for n in range(4)]
        used = set()
        for worker in workers:
            assert worker.maintain()
            used |= set(recorder.status.nodes(str(publisher.location)).items())
            publisher.disconnect()
    nodes = [str(node) for node in publisher.location.nodes]
    assert {node for _, node in used} == {nodes[1], nodes[3]}
    assert {name for name, _ in used} == {f"worker-{n}" for n in range(4)}
    actions = [getattr(one, "action", "") for one in caplog.records]
    assert (actions.count("broker_node_used"), actions.count("broker_node_down")) == (4, 2)
    assert "geheim" not in caplog.text


def test_a_connection_that_was_served_is_left_alone_for_a_moment(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    served: list[float] = []
    with Publisher(url=amqp_url) as publisher:
        keep_alive = publisher.keep_alive
        monkeypatch.setattr(publisher, "keep_alive", lambda: (served.append(now[0]), keep_alive()))
        link = BrokerConnections("worker-1", [publisher], Recorder(clock=lambda: now[0]).runtime)
        for moment in (0.0, LEFT_ALONE_SECONDS / 2, LEFT_ALONE_SECONDS):
            now[0] = moment
            assert link.maintain()
        assert served == [0.0, LEFT_ALONE_SECONDS]

        publisher.disconnect()
        assert link.maintain()
        assert publisher.status().connected, "a connection that is lost is opened at once"


def test_connection_served_is_not_left_alone_when_it_is_blocked(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    recorder = Recorder(clock=lambda: now[0])
    health = recorder.health
    with Publisher(url=amqp_url) as publisher:
        link = BrokerConnections("worker-1", [publisher], recorder.runtime)
        assert link.maintain()
        # As a publish notices it, which serves the connection as well.
        monkeypatch.setattr(publisher, "status", lambda: PublisherStatus(True, True, "low on memory"))
        now[0] += LEFT_ALONE_SECONDS / 2
        assert not link.maintain(), "rows would be locked for a burst that cannot be sent"
        assert health.broker() == "blocked"


def test_while_a_silent_broker_is_waited_for_readiness_tells_that_it_is_down(amqp_url: str) -> None:
    parts = urlsplit(amqp_url)
    recorder = Recorder()
    health = recorder.health
    with (
        FaultProxy(parts.hostname or "", parts.port or 0) as proxy,
        Publisher(url=amqp_url.replace(f":{parts.port}", f":{proxy.port}")) as publisher,
    ):
        link = BrokerConnections("worker-1", [publisher], recorder.runtime)
        assert link.maintain()
        assert health.broker() == "up"
        proxy.reset()
        proxy.blackhole()
        trying = threading.Thread(target=lambda: [link.maintain() for _ in range(2)])
        trying.start()
        eventually(lambda: health.broker() == "down", 5, "the relay tells that the broker is down")
        assert trying.is_alive(), "it is still waiting for the broker"
        proxy.forward()
        trying.join(30)
        assert link.maintain()
        link.close()


class Watching(ProgressReporter):
    """Told of progress, as a burst is."""

    def __init__(self, told: Callable[[], object]) -> None:
        self._told = told
        self.message_bytes = None

    def report_progress(self) -> None:
        self._told()

    def holds_locks(self, ask: bool) -> bool:
        return True


def test_an_alarm_within_a_burst_is_told_when_the_broker_tells_it() -> None:
    recorder = Recorder()
    conditions: list[str] = []

    def script(session: Session, message: Published) -> None:
        session.block("low on disk")
        session.unblock()
        session.ack(message.tag)

    with AmqpPeer(script) as peer, Publisher(url=peer.url) as publisher:
        link = BrokerConnections("worker-1", [publisher], recorder.runtime)
        idle = BrokerConnections("worker-2", [publisher], recorder.runtime)
        assert link.maintain()
        assert idle.maintain()
        with Watching(lambda: (link.tell_blocked(), conditions.append(recorder.health.broker()))):
            publisher.publish_messages([Message("", "somewhere", b"x")])
    assert conditions[:2] == ["blocked", "up"]
    assert ("broker_changed", "worker-1", "blocked", "low on disk", str(publisher.location)) in recorder.told


def test_the_present_reason_is_told_not_that_of_the_beginning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "test.broker")
    clock = Clock()
    recorder = Recorder(logger="test.broker", clock=clock)
    with AmqpPeer() as peer:
        publisher = Publisher(url=peer.url)
        link = BrokerConnections("worker-1", [publisher], recorder.runtime)
        assert link.maintain()
        peer.on_session(lambda session: session.close_connection(320))
        eventually(lambda: (publisher.keep_alive(), not publisher.status().connected)[1])
        location, first = str(publisher.location), publisher.status().reason
        recorder.events.broker_changed("worker-2", "down", first, location)
        recorder.events.broker_changed("worker-1", "down", first, location)
        since = recorder.health.broker_at(location).since
    assert not link.maintain()
    # The other worker has not tried yet, and tells again what it knows.
    recorder.events.broker_changed("worker-2", "down", first, location)
    for reason in (
        recorder.health.broker_at(location).reason,
        recorder.incidents.lasting()[f"Broker {location}"].reason,
    ):
        assert "nothing listens there" in str(reason)
    assert recorder.health.broker_at(location).since == since
    clock.now += SETTLED_AFTER_SECONDS
    recorder.events.broker_changed("worker-2", "down", first, location)
    logged = [record.getMessage() for record in caplog.records if record.name == "test.broker"]
    assert ["320" in line for line in logged] == [True, False]


def test_a_blocked_connection_counts_although_others_are_idle() -> None:
    recorder = Recorder()
    recorder.events.broker_changed("worker-1", "up", None, "here")
    recorder.events.broker_changed("worker-2", "blocked", "low on memory", "here")
    assert recorder.health.broker() == "blocked"
    assert recorder.incidents.lasting()["Broker here"].reason == "takes no messages (low on memory)"
    recorder.events.broker_changed("worker-1", "up", None, "here")
    assert recorder.health.broker() == "blocked"
    recorder.events.broker_changed("worker-2", "up", None, "here")
    assert recorder.health.broker() == "up"
    assert recorder.incidents.lasting() == {}


class Lost(Watching):
    """A burst that is known to have lost its locks."""

    def holds_locks(self, ask: bool) -> bool:
        return False


@pytest.mark.parametrize("is_connected", [True, False])
def test_nothing_is_published_for_a_burst_that_has_lost_its_locks(is_connected: bool) -> None:
    with FakePublisher() as publisher, Lost(lambda: None):
        if is_connected:
            publisher.connect()
        with pytest.raises(PublishError) as raised:
            publisher.publish_messages([Message("", "somewhere", b"x")])
        assert "ended the transaction of the burst" in raised.value.outcomes[0].reason
        assert publisher.broker.messages == []
