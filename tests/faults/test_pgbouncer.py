"""Bursts and relays through PgBouncer in transaction mode: what a burst sets stays in its transaction."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import BurstError, SignalBus
from signalbus_core.lowlevel import BurstLimits, BurstResult, send_burst
from tests.support.broker import Broker
from tests.support.pgbouncer import PrivatePgBouncer
from tests.support.postgres import PrivatePostgres
from tests.support.shop import Shop
from tests.support.waiting import eventually

LIMITS = BurstLimits(statement_timeout_seconds=7, lock_timeout_seconds=0.5, idle_timeout_seconds=9)


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    with PrivatePostgres() as server:
        yield server.start()


@pytest.fixture
def bouncer_url(server: PrivatePostgres) -> Iterator[str]:
    """An empty database behind a PgBouncer that has one connection to it."""
    with PrivatePgBouncer(server, pool_size=1, users=("postgres", "careful")) as bouncer:
        bouncer.start()
        yield bouncer.in_front_of(server.create_database())


class Outbox:
    """An application with one signal, whose send method each test chooses."""

    def __init__(self, database_url: str) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = SQLAlchemy(self.app)
        outbox = self

        class Order(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)

            def send_signalbus_message(self) -> None:
                outbox.sender()

        self.model: Any = Order
        self.sender: Callable[[], object] = lambda: None
        with self.app.app_context():
            db.create_all()
            db.session.add(Order())
            db.session.commit()

    def burst(self, limits: BurstLimits = LIMITS) -> BurstResult:
        with self.app.app_context():
            [spec] = SignalBus(self.db).specs([self.model])
            return send_burst(self.db.session(), spec, limits=limits)

    def ask(self, statement: str) -> Any:
        """Within the burst's transaction, from its send method."""
        return self.db.session.execute(sa.text(statement)).scalar()

    def left(self) -> int:
        with self.app.app_context():
            return int(self.db.session.scalar(sa.select(sa.func.count()).select_from(self.model)) or 0)

    def close(self) -> None:
        with self.app.app_context():
            self.db.engine.dispose()


@pytest.fixture
def outbox(bouncer_url: str) -> Iterator[Outbox]:
    with contextlib.closing(Outbox(bouncer_url)) as outbox:
        yield outbox


@contextlib.contextmanager
def client(url: str) -> Iterator[Any]:
    """Another client's transaction."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=10)
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        yield cursor


SETTINGS = (
    "SELECT concat_ws(' ', pg_backend_pid(), current_setting('statement_timeout'), current_setting('lock_timeout'),"
    " current_setting('idle_in_transaction_session_timeout'), current_setting('transaction_isolation'))"
)


def settings_of_a_client(url: str) -> list[str]:
    with client(url) as cursor:
        cursor.execute(SETTINGS)
        return str(cursor.fetchone()[0]).split(" ", 4)


def test_the_limits_of_a_burst_hold_in_it_and_for_nobody_else_on_its_server_connection(
    outbox: Outbox, bouncer_url: str
) -> None:
    seen: list[list[str]] = []
    outbox.sender = lambda: seen.append(outbox.ask(SETTINGS).split(" ", 4))
    before = settings_of_a_client(bouncer_url)
    assert outbox.burst().sent == 1
    after = settings_of_a_client(bouncer_url)
    [[backend, *limits]] = seen
    assert limits == ["7s", "500ms", "9s", "read committed"]
    assert before == after == [backend, "0", "0", "0", "read committed"]


def test_a_burst_that_failed_leaves_no_limits_behind_either(outbox: Outbox, bouncer_url: str) -> None:
    backend, *_ = settings_of_a_client(bouncer_url)
    outbox.sender = lambda: 1 / 0
    assert isinstance(outbox.burst().error, ZeroDivisionError)
    assert settings_of_a_client(bouncer_url) == [backend, "0", "0", "0", "read committed"]


def test_a_statement_that_takes_too_long_is_ended(outbox: Outbox, bouncer_url: str) -> None:
    outbox.sender = lambda: outbox.ask("SELECT pg_sleep(20)")
    result = outbox.burst(BurstLimits(statement_timeout_seconds=0.3))
    assert "statement timeout" in str(result.error)
    assert outbox.left() == 1


def test_a_table_that_is_locked_by_a_migration_is_not_waited_for(server: PrivatePostgres, outbox: Outbox) -> None:
    name = str(outbox.app.config["SQLALCHEMY_DATABASE_URI"]).rsplit("/", 1)[1]
    with client(server.database_url(name)) as migration:
        # A burst that waits all the same shall fail the test, not hang it.
        migration.execute("SET LOCAL idle_in_transaction_session_timeout = '20s'")
        migration.execute('LOCK TABLE "order"')
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            outbox.burst()
    assert outbox.burst().sent == 1


def test_send_method_that_takes_too_long_loses_transaction(
    server: PrivatePostgres, outbox: Outbox, bouncer_url: str
) -> None:
    backend, *_ = settings_of_a_client(bouncer_url)

    def wait_for_the_end_of_the_session() -> None:
        alive = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {backend}"
        eventually(lambda: server.execute(alive) == [(0,)], 20)

    outbox.sender = wait_for_the_end_of_the_session
    # The signal was sent: deleting it is tried once more, in a transaction of its own.
    assert outbox.burst(BurstLimits(idle_timeout_seconds=0.3)).sent == 1
    assert outbox.left() == 0
    other, *settings = settings_of_a_client(bouncer_url)
    assert other != backend
    assert settings == ["0", "0", "0", "read committed"]


def test_burst_is_read_committed_although_role_is_serializable(server: PrivatePostgres, bouncer_url: str) -> None:
    server.execute("DROP ROLE IF EXISTS careful")
    server.execute("CREATE ROLE careful LOGIN SUPERUSER")
    server.execute("ALTER ROLE careful SET default_transaction_isolation = 'serializable'")
    url = bouncer_url.replace("//postgres@", "//careful@")
    with contextlib.closing(Outbox(url)) as outbox:
        seen: list[str] = []
        outbox.sender = lambda: seen.append(outbox.ask("SHOW transaction_isolation"))
        assert settings_of_a_client(url)[4] == "serializable"
        assert outbox.burst().sent == 1
        assert settings_of_a_client(url)[4] == "serializable"
    assert seen == ["read committed"]


def test_a_lost_pgbouncer_after_sending_is_an_error_that_tells_how_many_may_come_twice(
    server: PrivatePostgres,
) -> None:
    with PrivatePgBouncer(server) as bouncer:
        bouncer.start()
        with contextlib.closing(Outbox(bouncer.in_front_of(server.create_database()))) as outbox:
            outbox.sender = bouncer.stop
            with pytest.raises(BurstError) as raised:
                outbox.burst()
            assert raised.value.sent == 1
            bouncer.start()
            outbox.sender = lambda: None
            assert outbox.burst().sent == 1


# Relays


@pytest.fixture
def shop(tmp_path: Path, server: PrivatePostgres, broker: Broker) -> Iterator[Shop]:
    """A shop that writes to PostgreSQL itself; its relays come through a PgBouncer."""
    shop = Shop(tmp_path, server.create_database(), broker)
    yield shop
    shop.close()


@contextlib.contextmanager
def bouncing(shop: Shop, server: PrivatePostgres, pool_size: int = 2, *settings: str) -> Iterator[PrivatePgBouncer]:
    with PrivatePgBouncer(server, pool_size=pool_size, settings=settings) as bouncer:
        bouncer.start()
        shop.environ["TEST_DATABASE_URL"] = bouncer.in_front_of(shop.environ["TEST_DATABASE_URL"])
        yield bouncer


def test_four_relays_on_two_connections_send_all_signals_once(shop: Shop, server: PrivatePostgres) -> None:
    with bouncing(shop, server):
        relays = [shop.relay("--workers", "2") for _ in range(4)]
        for relay in relays:
            relay.wait_ready(60)
        shop.write(1, 4000)
        shop.wait_until_sent(90)
        assert 0 < server_connections(shop, server) <= 2
        for relay in relays:
            relay.terminate()
        assert [relay.wait() for relay in relays] == [0, 0, 0, 0]
    assert sorted(shop.received()) == list(range(1, 4001))


def server_connections(shop: Shop, server: PrivatePostgres) -> int:
    """How many connections a PgBouncer has to the database of the shop."""
    name = urlsplit(shop.environ["TEST_DATABASE_URL"]).path[1:]
    condition = f"datname = '{name}' AND backend_type = 'client backend'"
    [[number]] = server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {condition}")
    # The shop itself has one.
    return int(number) - 1


def test_pgbouncer_started_again_in_between_loses_nothing(shop: Shop, server: PrivatePostgres) -> None:
    with bouncing(shop, server) as bouncer:
        relay = shop.relay("--workers", "2")
        relay.wait_ready()
        stop = threading.Event()

        def write() -> None:
            for first in range(1, 3001, 50):
                shop.write(first, first + 49)
                stop.wait(0.01)

        with writing(write):
            eventually(lambda: shop.broker.count(shop.queue) > 300, 30)
            bouncer.restart()
            eventually(lambda: shop.broker.count(shop.queue) > 1500, 30)
            bouncer.kill9()
            bouncer.start()
        shop.wait_until_sent(60)
        assert relay.is_running
    received = shop.received()
    assert set(received) == set(range(1, 3001))
    # Two cuts, two workers, 50 signals in each burst.
    assert len(received) <= 3000 + 2 * 2 * 50


@contextlib.contextmanager
def writing(write: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_relay_of_psycopg_3_application_prepares_no_statements(shop: Shop, server: PrivatePostgres) -> None:
    with bouncing(shop, server):
        shop.environ["TEST_DATABASE_URL"] = shop.environ["TEST_DATABASE_URL"].replace("+psycopg2", "+psycopg")
        relays = [shop.relay("--workers", "2") for _ in range(2)]
        for relay in relays:
            relay.wait_ready(60)
        # The driver prepares what it executes for the sixth time on a connection.
        for number in range(1, 21):
            shop.write(100 * number, 100 * number + 99)
            shop.wait_until_sent()
        lines = [line for relay in relays for line in relay.logs()]
        assert {line["action"] for line in lines if line["level"] != "INFO"} == {"parked_table_missing"}
    assert sorted(shop.received()) == list(range(100, 2100))


def test_server_connections_closed_when_idle_are_no_outage(shop: Shop, server: PrivatePostgres) -> None:
    with bouncing(shop, server, 2, "server_idle_timeout = 0.1") as bouncer:
        relay = shop.relay()
        relay.wait_ready()
        for number in (1, 2, 3):
            closed = bouncer.output.count("server idle timeout")
            eventually(lambda closed=closed: bouncer.output.count("server idle timeout") > closed, 20)  # type: ignore[misc]
            shop.write(number, number)
            shop.wait_until_sent()
        assert relay.logs("database_down") == []
    assert sorted(shop.received()) == [1, 2, 3]


def test_pool_without_free_connection_is_outage_without_cost(shop: Shop, server: PrivatePostgres) -> None:
    with bouncing(shop, server, 1, "query_wait_timeout = 1") as bouncer:
        relay = shop.relay()
        relay.wait_ready()
        with client(shop.environ["TEST_DATABASE_URL"]) as others:
            others.execute("SELECT 1")
            shop.write(1, 100)
            relay.wait_for_log("database_down")
            assert relay.get("/readyz")[0] == 503
            assert relay.get("/livez")[0] == 200
            assert "query_wait_timeout" in bouncer.output
        shop.wait_until_sent()
        relay.wait_ready()
        # Unknown during the outage, and measured again with the next poll that measures.
        none_parked = 'signalbus_parked_signals{signal="Order"} 0.0'
        eventually(lambda: none_parked in relay.get("/metrics")[1], 20, "no signal is parked")
        assert 'possible_duplicates_total{signal="Order"} 0.0' in relay.get("/metrics")[1]
    assert sorted(shop.received()) == list(range(1, 101))


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_wait_for_a_signal_leaves_no_lock_and_no_listen_behind(bouncer_url: str, driver: str) -> None:
    outbox = Outbox(bouncer_url.replace("psycopg2", driver))
    bus, left = SignalBus(outbox.db), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    with outbox.app.app_context():
        signal = outbox.db.session.scalars(sa.select(outbox.model)).one()
        outbox.db.session.commit()
        outbox.db.session.expunge_all()
        assert bus.wait_sent(signal, 0.1) is False
        with outbox.db.engine.connect() as connection:
            assert connection.scalar(sa.text(f"SELECT ({left}) + (SELECT count(*) FROM pg_listening_channels())")) == 0
    sending = threading.Timer(0.2, outbox.burst)
    sending.start()
    with outbox.app.app_context():
        assert bus.wait_sent(signal, 20) is True
    sending.join()
    outbox.close()
