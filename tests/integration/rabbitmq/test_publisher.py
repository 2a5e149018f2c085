"""The publisher against a real RabbitMQ: the outcome of each message is what the broker did with it."""

from __future__ import annotations

import _thread
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from pika import BasicProperties

from relay.checks.broker import check_broker
from signalbus_core import OutcomeKind, PartialDeliveryError, PublishError, SetupError
from signalbus_core.rabbitmq import BrokerConnectionError, Message, Publisher
from tests.support.broker import Broker
from tests.support.proxy import FaultProxy
from tests.support.rabbitmq import PrivateRabbitMQ
from tests.support.waiting import eventually

#: What a publish may take that has no limit of its own, on a machine that is busy with other things as well.
PATIENCE_SECONDS = 20.0


@pytest.fixture
def publisher(amqp_url: str) -> Iterator[Publisher]:
    with Publisher(url=amqp_url) as publisher:
        yield publisher


@pytest.fixture
def proxy(amqp_url: str) -> Iterator[FaultProxy]:
    parts = urlsplit(amqp_url)
    with FaultProxy(parts.hostname or "", parts.port or 5672) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(amqp_url: str, proxy: FaultProxy) -> Iterator[Publisher]:
    parts = urlsplit(amqp_url)
    url = amqp_url.replace(f":{parts.port}/", f":{proxy.port}/")
    with Publisher(url=url, timeout_seconds=PATIENCE_SECONDS) as publisher:
        yield publisher


def outcomes(publisher: Publisher, messages: list[Message], **arguments: Any) -> list[str]:
    """Publish, and return each outcome's cause."""
    try:
        publisher.publish_messages(messages, **arguments)
    except PublishError as error:
        return [outcome.cause for outcome in error.outcomes]
    return ["acked"] * len(messages)


def reasons(publisher: Publisher, messages: list[Message]) -> list[str]:
    with pytest.raises(PublishError) as raised:
        publisher.publish_messages(messages)
    return [outcome.reason for outcome in raised.value.outcomes]


def test_confirmed_messages_are_in_the_queue_in_order(publisher: Publisher, broker: Broker) -> None:
    exchange = broker.exchange()
    queue = broker.queue(exchange)
    publisher.publish_messages([Message(exchange, f"key.{number}", str(number)) for number in range(1000)])
    assert [message.text for message in broker.take_all(queue)] == [str(number) for number in range(1000)]


def test_nothing_to_publish_needs_no_broker() -> None:
    Publisher(url="amqp://127.0.0.1:1/").publish_messages([])


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 1_000_000])
def test_bodies_of_any_size_arrive_whole(publisher: Publisher, broker: Broker, size: int) -> None:
    queue = broker.queue()
    body = os.urandom(size)
    publisher.publish_messages([Message("", queue, body)])
    assert [message.body for message in broker.take_all(queue)] == [body]


def test_properties_arrive_as_they_were_given(publisher: Publisher, broker: Broker) -> None:
    queue = broker.queue()
    headers = {"text": "ü", "int": -5, "list": [1, "a"], "table": {"deep": True}, "none": None}
    given = BasicProperties(
        content_type="application/json", headers=headers, message_id="m", priority=3, timestamp=1_700_000_000
    )
    publisher.publish_messages([Message("", queue, b"{}", given)])
    [received] = broker.take_all(queue)
    assert received.properties == given


def test_returned_messages_are_told_apart_one_by_one(publisher: Publisher, broker: Broker) -> None:
    exchange = broker.exchange()
    queue = broker.queue(exchange, "wanted")
    keys = ["wanted", "nobody", "wanted", "wanted", "nobody-else"] * 40
    found = outcomes(publisher, [Message(exchange, key, str(number)) for number, key in enumerate(keys)])
    assert found == ["acked" if key == "wanted" else "returned" for key in keys]
    assert broker.count(queue) == 120


def test_reason_of_a_returned_message_is_what_broker_said(publisher: Publisher, broker: Broker) -> None:
    assert reasons(publisher, [Message("", "no-such-queue", b"")]) == ["312 NO_ROUTE"]


def test_unroutable_message_not_mandatory_counts_as_taken(publisher: Publisher) -> None:
    assert outcomes(publisher, [Message("", "no-such-queue", b"", mandatory=False)]) == ["acked"]


def test_nacked_messages_are_refused_and_the_others_acked(publisher: Publisher, broker: Broker) -> None:
    full = broker.queue(**{"x-max-length": 3, "x-overflow": "reject-publish"})
    roomy = broker.queue()
    messages = [Message("", queue, b"") for queue in [full, roomy] * 20]
    found = outcomes(publisher, messages)
    assert found[1::2] == ["acked"] * 20
    assert set(found[0::2]) == {"acked", "nacked"}
    # RabbitMQ may take a few more than the limit, and says so for each.
    assert broker.count(full) == found[0::2].count("acked")


def test_an_invalid_message_is_never_sent_and_the_rest_is(publisher: Publisher, broker: Broker) -> None:
    queue = broker.queue()
    messages = [Message("", queue, b"1"), Message("", "k" * 256, b"2"), Message("", queue, b"3")]
    assert outcomes(publisher, messages) == ["acked", "invalid", "acked"]
    assert [message.text for message in broker.take_all(queue)] == ["1", "3"]


def test_a_missing_exchange_costs_the_other_messages_nothing(publisher: Publisher, broker: Broker) -> None:
    queue = broker.queue()
    messages = [Message("", queue, b"1"), Message("no-such-exchange", "k", b"2"), Message("", queue, b"3")]
    for _ in range(3):
        assert outcomes(publisher, messages) == ["acked", "refused", "acked"]
    assert [message.text for message in broker.take_all(queue)] == ["1", "3"] * 3
    assert "no-such-exchange" in reasons(publisher, messages)[1]


def test_an_exchange_that_appears_later_is_found(publisher: Publisher, broker: Broker) -> None:
    exchange = broker.exchange()
    queue = broker.queue(exchange)
    broker.delete_exchange(exchange)
    assert outcomes(publisher, [Message(exchange, "k", b"")]) == ["refused"]
    with broker.channel as channel:
        channel.exchange_declare(exchange, exchange_type="topic", durable=True)
    broker.bind(queue, exchange, "#")
    assert outcomes(publisher, [Message(exchange, "k", b"")]) == ["acked"]


def test_exchange_deleted_once_verified_is_only_one_refused(publisher: Publisher, broker: Broker) -> None:
    queue, exchange = broker.queue(), broker.exchange("fanout")
    broker.bind(queue, exchange, "")
    assert outcomes(publisher, [Message(exchange, "", b"before")]) == ["acked"]
    broker.delete_exchange(exchange)
    messages = [Message("", queue, b"a"), Message(exchange, "", b"gone"), Message("", queue, b"b")]

    assert outcomes(publisher, messages) == ["acked", "refused", "acked"]

    broker.take_all(queue)
    # The fault lasts; from now on the other messages arrive once each.
    for _ in range(3):
        assert outcomes(publisher, messages) == ["acked", "refused", "acked"]
    assert [message.text for message in broker.take_all(queue)] == ["a", "b"] * 3


def test_a_forbidden_exchange_is_refused_and_the_others_arrive_once_from_then_on(
    private_rabbitmq: PrivateRabbitMQ,
) -> None:
    server = private_rabbitmq
    broker = Broker(server.add_vhost())
    vhost = broker.url.rsplit("/", 1)[1]
    user = f"limited-{uuid.uuid4().hex[:8]}"
    server.eval(
        f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"pw">>, <<"tests">>), '
        f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost}">>, '
        '<<"^$">>, <<"^amq[.]default$">>, <<"^$">>, <<"tests">>).'
    )
    queue, exchange = broker.queue(), broker.exchange("fanout")
    broker.bind(queue, exchange, "")
    messages = [Message("", queue, b"a"), Message(exchange, "", b"forbidden"), Message("", queue, b"b")]
    with Publisher(url=server.vhost_url(vhost, user, "pw")) as publisher:
        assert outcomes(publisher, messages) == ["acked", "refused", "acked"]
        assert "403" in reasons(publisher, messages)[1]
        broker.take_all(queue)
        for _ in range(3):
            assert outcomes(publisher, messages) == ["acked", "refused", "acked"]
    assert [message.text for message in broker.take_all(queue)] == ["a", "b"] * 3
    broker.close()


def test_burst_cut_anywhere_acks_nothing_that_did_not_arrive(
    through_proxy: Publisher, proxy: FaultProxy, broker: Broker
) -> None:
    queue = broker.queue()
    # 1,000 bodies of 100 bytes make about 150 kB on the wire.
    for cut_after in [0, 1, 60, 200, 5_000, 70_000, 140_000]:
        through_proxy.connect()
        proxy.cut_after(cut_after)
        bodies = [f"{cut_after}-{number}".ljust(100) for number in range(1000)]
        found = outcomes(through_proxy, [Message("", queue, body) for body in bodies])
        arrived = {message.text for message in broker.take_all(queue)}
        assert "unknown" in found
        assert {body for body, cause in zip(bodies, found, strict=True) if cause == "acked"} <= arrived
        assert set(found) <= {"acked", "unknown"}


def test_a_lost_connection_is_opened_again_by_the_next_publish(
    through_proxy: Publisher, proxy: FaultProxy, broker: Broker
) -> None:
    queue = broker.queue()
    for _ in range(3):
        assert outcomes(through_proxy, [Message("", queue, b"")]) == ["acked"]
        proxy.reset()
        eventually(lambda: (through_proxy.keep_alive(), not through_proxy.status().connected)[1])
    assert proxy.connections == 3


def test_a_silent_broker_is_given_up_at_the_deadline(
    through_proxy: Publisher, proxy: FaultProxy, broker: Broker
) -> None:
    queue = broker.queue()
    through_proxy.publish_messages([Message("", queue, b"")])
    proxy.blackhole()
    started = time.monotonic()
    assert outcomes(through_proxy, [Message("", queue, b"")] * 2, timeout_seconds=0.5) == ["unknown", "unknown"]
    assert 0.5 <= time.monotonic() - started < PATIENCE_SECONDS
    assert not through_proxy.status().connected
    proxy.forward()
    assert outcomes(through_proxy, [Message("", queue, b"")]) == ["acked"]


def test_broker_away_leaves_everything_unknown_and_unsent() -> None:
    publisher = Publisher(url="amqp://guest:secret@127.0.0.1:1/", timeout_seconds=2)
    [reason] = reasons(publisher, [Message("", "q", b"")])
    assert reason.startswith("not sent: ")
    assert "127.0.0.1:1" in reason
    assert "secret" not in reason


def test_silent_peer_does_not_hold_up_connecting_beyond_timeout(through_proxy: Publisher, proxy: FaultProxy) -> None:
    proxy.blackhole()
    started = time.monotonic()
    with pytest.raises(BrokerConnectionError, match="no answer"):
        through_proxy.connect(timeout_seconds=0.5)
    assert time.monotonic() - started < PATIENCE_SECONDS


def test_why_connection_does_not_open_is_said_without_password(amqp_url: str) -> None:
    parts = urlsplit(amqp_url)
    address = f"{parts.hostname}:{parts.port}"
    cases = {
        f"amqp://guest:wrong-secret@{address}/": "login was refused",
        f"amqp://guest:{parts.password}@{address}/no-such-vhost": "virtual host",
        f"amqp://guest:{parts.password}@no-such-host.invalid/": "host name",
        f"amqp://guest:{parts.password}@127.0.0.1:1/": "nothing listens there",
    }
    for url, text in cases.items():
        with pytest.raises(BrokerConnectionError, match=text) as raised:
            Publisher(url=url).connect(5)
        assert "secret" not in str(raised.value)
        assert "guest@" in str(raised.value)


def test_a_block_that_lasts_repeats_nothing(private_rabbitmq: PrivateRabbitMQ) -> None:
    broker = Broker(private_rabbitmq.url)
    queue = broker.queue()
    with Publisher(url=private_rabbitmq.url, timeout_seconds=PATIENCE_SECONDS) as publisher:
        publisher.publish_messages([Message("", queue, b"before")])
        private_rabbitmq.block_publishers()
        # The broker tells a connection that it is blocked when it publishes, so this one is on its way already.
        assert outcomes(publisher, [Message("", queue, b"during")], timeout_seconds=2) == ["unknown"]
        assert publisher.status().blocked
        started = time.monotonic()
        for _ in range(3):
            [reason] = reasons(publisher, [Message("", queue, b"never")])
            assert reason.startswith("not sent: ")
        assert time.monotonic() - started < 3 * PATIENCE_SECONDS
        private_rabbitmq.unblock_publishers()
        eventually(lambda: (publisher.keep_alive(), not publisher.status().blocked)[1], 20)
        assert outcomes(publisher, [Message("", queue, b"after")]) == ["acked"]
    assert [message.text for message in broker.take_all(queue)] == ["before", "during", "after"]
    broker.close()


def test_a_block_in_flight_is_waited_for_until_the_deadline(private_rabbitmq: PrivateRabbitMQ) -> None:
    broker = Broker(private_rabbitmq.url)
    queue = broker.queue()
    with Publisher(url=private_rabbitmq.url) as publisher:
        publisher.publish_messages([Message("", queue, b"before")])
        private_rabbitmq.block_publishers()
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.extend(outcomes(publisher, [Message("", queue, b"x")])))
        thread.start()
        private_rabbitmq.unblock_publishers()
        thread.join(30)
        assert found == ["acked"]
        publisher.close()
    broker.close()


def test_each_thread_has_a_connection_of_its_own(through_proxy: Publisher, proxy: FaultProxy, broker: Broker) -> None:
    queue = broker.queue()
    barrier = threading.Barrier(4, timeout=20)

    def publish() -> None:
        through_proxy.connect()
        barrier.wait()
        through_proxy.publish_messages([Message("", queue, b"")] * 50)
        through_proxy.publish_messages([Message("", queue, b"")] * 50)
        barrier.wait()

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert proxy.connections == 4
    assert broker.count(queue) == 400


def by_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)


def by_thread_of_another_maker(work: Callable[[], object]) -> None:
    """As a thread of uWSGI, or a greenlet: threading gives it a name when it asks, and never learns of its end."""
    has_ended = threading.Lock()
    has_ended.acquire()

    def run() -> None:
        try:
            work()
        finally:
            has_ended.release()

    _thread.start_new_thread(run, ())
    assert has_ended.acquire(timeout=20)


@pytest.mark.parametrize("run", [by_thread, by_thread_of_another_maker])
def test_connections_of_ended_threads_are_closed_when_one_publishes(
    publisher: Publisher, broker: Broker, run: Callable[[Callable[[], object]], None]
) -> None:
    queue = broker.queue()
    publisher.publish_messages([Message("", queue, b"")])

    def publish() -> None:
        publisher.publish_messages([Message("", queue, b"")])
        connections.append(publisher._settings().broker.connections.mine())

    connections: list[Any] = []
    for _ in range(3):
        run(publish)

    def are_closed() -> bool:
        # The connection of this thread is open; none has to be opened.
        publisher.publish_messages([Message("", queue, b"")])
        return not any(connection.is_open for connection in connections)

    eventually(are_closed)


def test_a_connection_with_too_few_channels_is_no_connection(amqp_url: str) -> None:
    with Publisher(url=f"{amqp_url}?channel_max=1") as publisher:
        with pytest.raises(BrokerConnectionError, match="set channel_max"):
            publisher.connect()
        assert not publisher.status().connected
        assert "set channel_max" in str(publisher.status().reason)


def test_a_users_limit_of_channels_is_told_as_long_as_it_lasts(private_rabbitmq: PrivateRabbitMQ) -> None:
    set_limits = 'rabbit_auth_backend_internal:set_user_limits(<<"guest">>, <<"{\\"max-%s\\": %d}">>, <<"tests">>).'
    clear_limits = 'rabbit_auth_backend_internal:clear_user_limits(<<"guest">>, <<"all">>, <<"tests">>).'
    private_rabbitmq.eval(set_limits % ("channels", 1))
    try:
        with Publisher(url=private_rabbitmq.url) as publisher:
            [outcome] = outcomes(publisher, [Message("amq.topic", "nobody", b"", mandatory=False)])
            assert outcome == "unknown"
            # It could connect, and not publish.
            for _ in range(2):
                with pytest.raises(BrokerConnectionError, match="number of channels"):
                    publisher.connect()
                assert "number of channels" in str(publisher.status().reason)
            [finding] = check_broker(publisher, [], ["broker"], send_probe=False)
            assert (finding.code, "number of channels" in finding.problem) == ("broker-channels", True)
            private_rabbitmq.eval(clear_limits)
            publisher.connect()
            publisher.publish_messages([Message("amq.topic", "nobody", b"", mandatory=False)])
        private_rabbitmq.eval(set_limits % ("connections", 0))
        with Publisher(url=private_rabbitmq.url) as publisher:
            [finding] = check_broker(publisher, [], ["broker"], send_probe=False)
            assert (finding.code, "connection" in finding.problem) == ("broker-limit", True)
    finally:
        private_rabbitmq.eval(clear_limits)


def test_forked_child_opens_connection_and_leaves_parents_alone(
    through_proxy: Publisher, proxy: FaultProxy, broker: Broker
) -> None:
    queue = broker.queue()
    through_proxy.publish_messages([Message("", queue, b"parent")])
    pid = os.fork()
    if pid == 0:
        try:
            through_proxy.publish_messages([Message("", queue, b"child")])
            through_proxy.close()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    through_proxy.publish_messages([Message("", queue, b"parent")])
    assert sorted(message.text for message in broker.take_all(queue)) == ["child", "parent", "parent"]
    assert proxy.connections == 2


def test_closing_ends_the_connections_of_all_threads_and_publishing_opens_a_new_one(
    publisher: Publisher, broker: Broker
) -> None:
    queue = broker.queue()
    publisher.connect()
    connections = [publisher._settings().broker.connections.mine()]
    is_open, is_closed = threading.Event(), threading.Event()

    def connect() -> None:
        publisher.connect()
        connections.append(publisher._settings().broker.connections.mine())
        is_open.set()
        is_closed.wait(20)

    other = threading.Thread(target=connect)
    other.start()
    assert is_open.wait(20)
    publisher.close()
    assert [connection is not None and connection.is_open for connection in connections] == [False, False]
    is_closed.set()
    other.join(20)
    publisher.publish_messages([Message("", queue, b"")])


def test_idle_connection_stays_open_as_long_as_it_is_kept_alive(amqp_url: str, broker: Broker) -> None:
    queue = broker.queue()
    with Publisher(url=amqp_url + "?heartbeat=1") as publisher:
        publisher.connect()
        connection = publisher._settings().broker.connections.mine()
        assert publisher.heartbeat_seconds == 1
        ended = threading.Event()
        until = time.monotonic() + 4
        while time.monotonic() < until:
            publisher.keep_alive()
            ended.wait(0.2)
        publisher.publish_messages([Message("", queue, b"")])
        assert publisher._settings().broker.connections.mine() is connection


def test_an_idle_connection_that_the_broker_gave_up_is_replaced_before_anything_is_sent(
    amqp_url: str, broker: Broker
) -> None:
    queue = broker.queue()
    with Publisher(url=amqp_url + "?heartbeat=1") as publisher:
        publisher.connect()
        connection = publisher._settings().broker.connections.mine()
        assert connection is not None
        # Nobody answers the broker's heartbeats; it ends the connection.
        threading.Event().wait(4)
        assert outcomes(publisher, [Message("", queue, b"")]) == ["acked"]
        assert publisher._settings().broker.connections.mine() is not connection
        assert broker.count(queue) == 1


# Signals


def test_delivered_and_failed_signals_are_told_apart(publisher: Publisher, broker: Broker) -> None:
    queue = broker.queue()
    messages = {
        "good": Message("", queue, b"good"),
        "two": [Message("", queue, b"two-1"), Message("", queue, b"two-2")],
        "none": [],
        "unroutable": Message("", "no-such-queue", b""),
        "half": [Message("", queue, b"half"), Message("", "k" * 256, b"")],
        "elsewhere": [Message("no-such-exchange", "", b""), Message("", queue, b"sibling")],
    }

    def message_of(signal: str) -> Any:
        return messages[signal]

    with pytest.raises(PartialDeliveryError) as raised:
        publisher.publish_signals([*messages, "raises"], message_of)

    assert raised.value.delivered == ["good", "two", "none"]
    failed = dict(raised.value.failed)
    assert {signal: outcome.cause for signal, outcome in failed.items()} == {
        "unroutable": "returned",
        "half": "invalid",
        "elsewhere": "refused",
        "raises": "invalid",
    }
    assert "KeyError" in failed["raises"].reason
    assert [message.text for message in broker.take_all(queue)] == ["good", "two-1", "two-2"]


def test_all_signals_delivered_raises_nothing(publisher: Publisher, broker: Broker) -> None:
    queue = broker.queue()
    publisher.publish_signals([1, 2], lambda number: Message("", queue, str(number)))
    assert broker.count(queue) == 2


def test_signal_with_too_few_messages_confirmed_is_undelivered(publisher: Publisher, broker: Broker) -> None:
    queue = broker.queue()
    with pytest.raises(PartialDeliveryError) as raised:
        publisher.publish_signals([1], lambda _: [Message("", queue, b""), Message("", "no-such-queue", b"")])
    assert raised.value.delivered == []
    assert [outcome.kind for _, outcome in raised.value.failed] == [OutcomeKind.REFUSED]


def test_anything_but_messages_makes_a_signal_invalid(publisher: Publisher) -> None:
    with pytest.raises(PartialDeliveryError) as raised:
        publisher.publish_signals([1], lambda _: "text")  # type: ignore[arg-type,return-value]
    assert [outcome.kind for _, outcome in raised.value.failed] == [OutcomeKind.INVALID]


# The extension


def test_the_url_comes_from_the_application(amqp_url: str, broker: Broker) -> None:
    queue = broker.queue()
    app = Flask(__name__)
    app.config["SIGNALBUS_RABBITMQ_URL"] = amqp_url
    publisher = Publisher()
    publisher.init_app(app)
    publisher.publish_messages([Message("", queue, b"")])
    assert app.extensions["signalbus_rabbitmq"] is publisher
    publisher.close()


def test_all_publishers_are_registered_and_first_is_default() -> None:
    app = Flask(__name__)
    first, second = Publisher(app, url="amqp://one/"), Publisher(app, url="amqp://two/")
    assert app.extensions["signalbus_rabbitmq"] is first
    assert app.extensions["signalbus_publishers"] == [first, second]


def application(**config: str) -> Flask:
    app = Flask(__name__)
    app.config.update(config)
    return app


def test_the_url_is_found_under_another_key(amqp_url: str, broker: Broker) -> None:
    queue = broker.queue()
    app = application(PROTOCOL_BROKER_URL=amqp_url)
    with Publisher(app, url_config_key="PROTOCOL_BROKER_URL") as publisher:
        publisher.publish_messages([Message("", queue, b"")])
    assert broker.count(queue) == 1


def test_url_missing_under_another_key_is_error_that_names_key() -> None:
    with pytest.raises(SetupError, match="PROTOCOL_BROKER_URL"):
        Publisher(application(SIGNALBUS_RABBITMQ_URL="amqp://one/"), url_config_key="PROTOCOL_BROKER_URL")


def test_an_application_has_a_publisher_for_each_of_its_brokers(amqp_url: str, broker: Broker) -> None:
    queue = broker.queue()
    app = application(ONE="amqp://guest:secret@127.0.0.1:1/", TWO=amqp_url)
    one, two = (Publisher(app, url_config_key=key) for key in ("ONE", "TWO"))
    with app.app_context(), one, two:
        two.publish_messages([Message("", queue, b"")])
        assert outcomes(one, [Message("", queue, b"")]) != ["acked"]
        assert str(one.location) == "amqp://guest@127.0.0.1:1/%2F"
        assert [one.status().connected, two.status().connected] == [False, True]
    assert broker.count(queue) == 1
    assert app.extensions["signalbus_publishers"] == [one, two]


@pytest.mark.parametrize("keys", [("SIGNALBUS_RABBITMQ_URL", "OTHER"), ("OTHER", "SIGNALBUS_RABBITMQ_URL")])
def test_the_default_publisher_is_that_of_the_usual_key(keys: tuple[str, str]) -> None:
    app = application(SIGNALBUS_RABBITMQ_URL="amqp://usual/", OTHER="amqp://other/")
    for key in keys:
        Publisher(app, url_config_key=key)
    with app.app_context():
        assert "usual" in str(app.extensions["signalbus_rabbitmq"].location)


def test_the_only_publisher_is_the_default_whatever_its_key() -> None:
    app = application(OTHER="amqp://other/")
    publisher = Publisher(app, url_config_key="OTHER")
    assert app.extensions["signalbus_rabbitmq"] is publisher


def test_each_application_of_a_publisher_has_its_own_broker(amqp_url: str, broker: Broker) -> None:
    queue = broker.queue()
    away, here = application(SIGNALBUS_RABBITMQ_URL="amqp://127.0.0.1:1/"), application(SIGNALBUS_RABBITMQ_URL=amqp_url)
    with Publisher() as publisher:
        for app in (away, here):
            publisher.init_app(app)
        with here.app_context():
            publisher.publish_messages([Message("", queue, b"")])
            assert publisher.status().connected
        with away.app_context():
            assert outcomes(publisher, [Message("", queue, b"")]) != ["acked"]
            assert not publisher.status().connected
        with pytest.raises(SetupError, match="several applications"):
            publisher.publish_messages([Message("", queue, b"")])
        bound = publisher.bound_to(here)
        with away.app_context():
            bound.publish_messages([Message("", queue, b"")])
    assert broker.count(queue) == 2


def test_apps_with_one_broker_share_connection_outside_of_them(amqp_url: str, broker: Broker) -> None:
    queue = broker.queue()
    apps = [application(SIGNALBUS_RABBITMQ_URL=amqp_url) for _ in range(2)]
    with Publisher() as publisher:
        for app in apps:
            publisher.init_app(app)
        with apps[0].app_context():
            publisher.publish_messages([Message("", queue, b"")])
        with apps[1].app_context():
            assert publisher.status().connected
        publisher.publish_messages([Message("", queue, b"")])
    assert broker.count(queue) == 2


def test_an_application_that_is_initialized_again_is_asked_again(amqp_url: str) -> None:
    app = application(SIGNALBUS_RABBITMQ_URL="amqp://guest:guest@old/")
    publisher = Publisher(app)
    app.config["SIGNALBUS_RABBITMQ_URL"] = "amqp://guest:guest@new/"
    publisher.init_app(app)
    assert str(publisher.location) == "amqp://guest@new:5672/%2F"
    assert app.extensions["signalbus_publishers"] == [publisher]


def test_none_as_messages_is_an_error_that_says_what_nothing_is(publisher: Publisher) -> None:
    with pytest.raises(PartialDeliveryError) as raised:
        publisher.publish_signals([1], lambda _: None)  # type: ignore[arg-type,return-value]
    [(_, outcome)] = raised.value.failed
    assert outcome.kind is OutcomeKind.INVALID
    assert "[] means that there is nothing to send" in outcome.reason


def test_a_missing_url_is_an_error_that_says_what_to_set() -> None:
    with pytest.raises(SetupError, match="SIGNALBUS_RABBITMQ_URL"):
        Publisher(Flask(__name__))


@pytest.mark.parametrize("url", ["http://user:secret@host/", "amqp:///", "amqp://user:secret@host:port/", "nonsense"])
def test_a_wrong_url_is_an_error_without_the_password(url: str) -> None:
    with pytest.raises(SetupError) as raised:
        Publisher(url=url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("timeout", [0, -1, "5", True])
def test_a_wrong_timeout_is_an_error(timeout: Any) -> None:
    app = Flask(__name__)
    app.config.update(SIGNALBUS_RABBITMQ_URL="amqp://host/", SIGNALBUS_RABBITMQ_TIMEOUT_SECONDS=timeout)
    with pytest.raises(SetupError, match="timeout"):
        Publisher(app)


# TLS


def test_amqps_urls_are_encrypted_and_verified(private_rabbitmq: PrivateRabbitMQ) -> None:
    server = private_rabbitmq
    broker = Broker(server.url)
    queue = broker.queue()
    query = f"ssl_options={{'ca_certs':'{server.directory}/tls/ca.pem','server_hostname':'localhost'}}"
    with Publisher(url=f"amqps://guest:guest@127.0.0.1:{server.tls_port}/%2F?{query}") as publisher:
        publisher.publish_messages([Message("", queue, b"over TLS")])
    assert [message.text for message in broker.take_all(queue)] == ["over TLS"]
    with pytest.raises(BrokerConnectionError, match=r"SSL|TLS|certificate"):
        Publisher(url=f"amqps://guest:guest@127.0.0.1:{server.tls_port}/%2F").connect(5)
    broker.close()
