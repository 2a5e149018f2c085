"""Servers that come back: how soon they are used again, and how many connections that costs them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.application.databases import limit_connections
from relay.poller.database import PolledDatabase
from relay.poller.pauses import PausedModels
from relay.poller.poller import Poller
from relay.scheduler import Scheduler
from relay.servers.reconnect import FOLLOWING_SECONDS, LONGEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS
from relay.worker.broker_connections import BrokerConnections
from relay.worker.model_state import ModelState
from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import RetryStores
from signalbus_core import SignalBusMixin
from signalbus_core.lowlevel import BurstLimits
from signalbus_core.rabbitmq import Publisher
from tests.support.clock import Clock
from tests.support.proxy import FaultProxy
from tests.support.recorder import Recorder

#: How long a server is away, in seconds of the injected clock.
OUTAGE_SECONDS = 20.0

STEP_SECONDS = 0.1


def behind_proxy(url: str) -> tuple[FaultProxy, str]:
    parts = urlsplit(url)
    proxy = FaultProxy(parts.hostname or "", parts.port or 0)
    return proxy, url.replace(f":{parts.port}/", f":{proxy.port}/")


def passing(clock: Clock, seconds: float) -> Iterator[float]:
    """Let the clock pass in small steps."""
    end = clock.now + seconds
    while clock.now < end:
        yield clock.now
        clock.now += STEP_SECONDS


def test_waiting_workers_share_one_try_and_follow_one_after_the_other(amqp_url: str) -> None:
    clock = Clock()
    recorder = Recorder(clock=clock)
    proxy, url = behind_proxy(amqp_url)
    publishers = [Publisher(url=url) for _ in range(4)]
    # Each stands for the connection of a worker's own thread.
    workers = [BrokerConnections(f"worker-{n}", [one], recorder.runtime) for n, one in enumerate(publishers)]
    with proxy:
        assert all(worker.maintain() for worker in workers)
        proxy.refuse()
        before = proxy.connections
        for publisher in publishers:
            publisher.disconnect()
        for _ in passing(clock, OUTAGE_SECONDS):
            assert not any(worker.maintain() for worker in workers)
        # Each try is a plain TCP connection, and a login where that is accepted, as the proxy does.
        assert proxy.connections - before <= 2 * (1 + OUTAGE_SECONDS / SHORTEST_PAUSE_SECONDS)
        assert recorder.health.broker() == "down"

        proxy.forward()
        back_at = clock.now
        open_at: dict[int, float] = {}
        for now in passing(clock, LONGEST_PAUSE_SECONDS + 4 * (FOLLOWING_SECONDS + STEP_SECONDS)):
            for number, worker in enumerate(workers):
                if worker.maintain():
                    open_at.setdefault(number, now)
        times = sorted(open_at.values())
        assert times[0] - back_at <= LONGEST_PAUSE_SECONDS + STEP_SECONDS
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert len(pauses) == 3
        assert min(pauses) >= FOLLOWING_SECONDS - 0.001
        for publisher in publishers:
            publisher.close()


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Polled:
    """A poller of one model, and a scheduler whose workers are this test."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.recorder = Recorder(["Order"], self.clock)
        app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.db = db = Database(app)
        members = {"id": db.Column(db.Integer, primary_key=True), "send_signalbus_message": lambda self: None}
        self.model = type("Order", (db.Model,), members)
        with app.app_context():
            self.engine = db.engine
            limit_connections(self.engine)
            db.create_all()
            specs = db.signalbus.specs()
        self.scheduler = Scheduler(["Order"], clock=self.clock)
        stores = RetryStores(specs, {None: self.engine}, RetryPolicy(), BurstLimits(), self.clock)
        paused = PausedModels(self.scheduler, self.recorder.runtime)
        states = {"Order": ModelState(specs[0])}
        parts = (states, stores, paused, self.scheduler, self.recorder.runtime)
        self.poller = Poller(PolledDatabase(None, self.engine, specs), *parts)


def test_a_database_that_is_away_is_polled_at_a_calm_pace_and_used_once_it_is_back(database_url: str) -> None:
    proxy, url = behind_proxy(database_url)
    with proxy:
        polled = Polled(url)
        poller, clock, scheduler = polled.poller, polled.clock, polled.scheduler
        with polled.engine.begin() as connection:
            connection.exec_driver_sql('INSERT INTO "order" VALUES (1)')
        assert poller.run_once()
        # A burst fails in the outage; the model would be tried again in 30 s.
        assert scheduler.take(0) == "Order"
        proxy.refuse()
        before = proxy.connections
        poller.run_once()
        scheduler.give_back("Order", more=False, wait_seconds=0.1)
        for _ in passing(clock, OUTAGE_SECONDS):
            poller.run_once()
            assert not poller.database_is_up
            assert scheduler.take(0) is None, "a worker would only fail"
            assert poller.retry_in_seconds is not None
        assert proxy.connections - before <= 1 + 2 * (1 + OUTAGE_SECONDS / SHORTEST_PAUSE_SECONDS)

        proxy.forward()
        back_at = clock.now
        for _ in passing(clock, LONGEST_PAUSE_SECONDS + 2 * STEP_SECONDS):
            poller.run_once()
            if poller.database_is_up:
                break
        assert poller.database_is_up
        assert clock.now - back_at <= LONGEST_PAUSE_SECONDS + STEP_SECONDS
        assert poller.retry_in_seconds is None
        assert scheduler.take(0) == "Order"
        polled.engine.dispose()


def test_a_database_that_is_back_read_only_is_still_away(database_url: str) -> None:
    polled = Polled(database_url)
    poller, scheduler, name = polled.poller, polled.scheduler, polled.engine.url.database
    with polled.engine.connect() as session:
        session.exec_driver_sql('INSERT INTO "order" VALUES (1)')
        session.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        session.commit()
        polled.engine.dispose()
        # A burst fails, because the server has become a standby.
        polled.recorder.runtime.servers.suspect(None, "ReadOnlySqlTransaction")
        poller.run_once()
        assert not poller.database_is_up
        assert scheduler.take(0) is None, "a worker would only fail"

        session.exec_driver_sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        session.commit()
    polled.clock.now += LONGEST_PAUSE_SECONDS
    poller.run_once()
    assert poller.database_is_up
    assert scheduler.take(0) == "Order"
    polled.engine.dispose()


@pytest.mark.parametrize("is_away", [True, False])
def test_a_model_whose_database_is_away_keeps_its_known_work(is_away: bool) -> None:
    scheduler = Scheduler(["Order"])
    scheduler.found(["Order"])
    scheduler.set_away(["Order"], away=is_away)
    assert scheduler.take(0) == (None if is_away else "Order")
    assert not scheduler.is_idle()
    scheduler.set_away(["Order"], away=False)
    assert scheduler.take(0) == ("Order" if is_away else None)
