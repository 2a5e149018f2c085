"""Connections that vanish without a word: a host that is gone, a cable that is cut. Nobody closes anything."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from relay.application.databases import CONNECTION_LIMITS, limit_connections
from signalbus_core import OutcomeKind, PublishError
from signalbus_core.rabbitmq import Message, Publisher
from signalbus_core.rabbitmq.amqp import url
from tests.support.broker import Broker
from tests.support.far_host import FarHost, NamespacesMissingError
from tests.support.shop import Shop
from tests.support.waiting import eventually

#: Retransmissions come at doubling intervals, and a connection is given up at one of them.
PATIENCE_SECONDS = 15.0


@pytest.fixture
def far_host() -> Iterator[FarHost]:
    try:
        host = FarHost()
    except NamespacesMissingError as error:
        pytest.skip(f"needs network namespaces: {error}")
    with host:
        yield host


@pytest.fixture
def far_engine(far_host: FarHost, database_url: str) -> Iterator[sa.Engine]:
    """The relay's way to connect; what is sent or kept alive may stay unacknowledged for two seconds."""
    query = "?tcp_user_timeout=2000&keepalives_idle=1&keepalives_interval=1"
    engine = sa.create_engine(far_host.having(database_url) + query)
    limit_connections(engine)
    yield engine
    engine.dispose()


def test_statement_to_database_host_that_vanished_ends_in_time(far_host: FarHost, far_engine: sa.Engine) -> None:
    with far_engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        far_host.pull_cable()
        started = time.monotonic()
        with pytest.raises(sa.exc.OperationalError, match="timed out") as raised:
            connection.execute(sa.text("SELECT 2"))
        assert 1.5 < time.monotonic() - started < PATIENCE_SECONDS
        assert raised.value.connection_invalidated


def test_answer_of_database_host_that_vanished_is_not_waited_for(
    far_host: FarHost, far_engine: sa.Engine, database_url: str
) -> None:
    def pull_cable_once_it_waits() -> None:
        asked = sa.text("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'")
        engine = sa.create_engine(database_url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            eventually(lambda: connection.scalar(asked))
        engine.dispose()
        far_host.pull_cable()

    with far_engine.connect() as connection:
        other = threading.Thread(target=pull_cable_once_it_waits)
        other.start()
        started = time.monotonic()
        with pytest.raises(sa.exc.OperationalError, match="timed out"):
            connection.execute(sa.text("SELECT pg_sleep(60)"))
        assert time.monotonic() - started < 2 * PATIENCE_SECONDS
        other.join()


def test_a_broker_host_that_vanished_is_given_up_in_time(
    far_host: FarHost, amqp_url: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(url.TCP_OPTIONS, "TCP_USER_TIMEOUT", 2000)
    queue = broker.queue()
    # Neither heartbeats nor the deadline shall be what ends it.
    with Publisher(url=far_host.having(amqp_url) + "?heartbeat=0", timeout_seconds=60) as publisher:
        publisher.publish_messages([Message("", queue, "arrives")])
        far_host.pull_cable()
        started = time.monotonic()
        with pytest.raises(PublishError) as raised:
            publisher.publish_messages([Message("", queue, "lost")])
        assert 1.5 < time.monotonic() - started < PATIENCE_SECONDS
        [outcome] = raised.value.outcomes
        assert outcome.kind is OutcomeKind.UNKNOWN
        assert "timed out" in outcome.reason
        far_host.plug_cable()
        publisher.publish_messages([Message("", queue, "arrives again")])
    assert [message.text for message in broker.take_all(queue)] == ["arrives", "arrives again"]


def test_a_relay_goes_on_when_its_database_host_is_back(
    far_host: FarHost, tmp_path: Path, database_url: str, broker: Broker
) -> None:
    with contextlib.closing(Shop(tmp_path, database_url, broker)) as shop:
        shop.environ["TEST_DATABASE_URL"] = far_host.having(database_url) + "?tcp_user_timeout=2000&connect_timeout=2"
        relay = shop.relay()
        relay.wait_ready()
        far_host.pull_cable()
        shop.write(1, 100)
        relay.wait_for_log("database_down")
        assert relay.get("/readyz")[0] == 503
        far_host.plug_cable()
        shop.wait_until_sent(60)
        relay.wait_ready()
        assert sorted(shop.received()) == list(range(1, 101))


# What is stated


def user_timeout(descriptor: int) -> int:
    """In milliseconds, as the kernel has it."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="TCP_USER_TIMEOUT exists on Linux only")
def test_a_database_connection_may_be_silent_for_as_long_as_is_stated(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    limit_connections(engine)
    with engine.connect() as connection:
        assert user_timeout(connection.connection.fileno()) == CONNECTION_LIMITS["tcp_user_timeout"] == 30_000
    engine.dispose()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="TCP_USER_TIMEOUT exists on Linux only")
def test_broker_connection_may_be_silent_as_long_as_is_stated(amqp_url: str) -> None:
    before = open_sockets()
    with Publisher(url=amqp_url) as publisher:
        publisher.connect()
        timeouts = [user_timeout(descriptor) for descriptor in open_sockets() - before]
    assert max(timeouts) == url.TCP_USER_TIMEOUT_MILLISECONDS == 30_000


def open_sockets() -> set[int]:
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(entry))) as one:
                    if one.family == socket.AF_INET:
                        found.add(int(entry))
    return found
