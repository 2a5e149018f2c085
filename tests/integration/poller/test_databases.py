"""Several databases, each polled by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.application.databases import limit_connections
from relay.exit_codes import EXIT_OK, StopRequest
from relay.poller.database import PolledDatabase
from relay.poller.diagnosis.unreached import Unreached
from relay.poller.interval import PollInterval
from relay.poller.pauses import PausedModels
from relay.poller.poller import Poller
from relay.poller.requests import PollRequests
from relay.poller.thread import PollLoop
from relay.poller.until_empty import UntilEmpty
from relay.scheduler import Scheduler
from relay.worker.hanging import EmptyBursts
from relay.worker.model_state import ModelState
from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import RetryStores
from signalbus_core import SignalBusMixin
from signalbus_core.lowlevel import BurstLimits
from tests.support.proxy import FaultProxy
from tests.support.recorder import Recorder
from tests.support.waiting import eventually

NAMES = ("Near", "Far")


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Polled:
    """A model in each of two databases, the second behind a proxy; this test is their worker."""

    def __init__(self, near: str, far: str) -> None:
        app = Flask(__name__)
        app.config.update(SQLALCHEMY_DATABASE_URI=near, SQLALCHEMY_BINDS={"far": far})
        self.db = db = Database(app)
        for name, bind_key in zip(NAMES, (None, "far"), strict=True):
            members = {"__bind_key__": bind_key, "id": db.Column(db.Integer, primary_key=True)}
            setattr(self, name, type(name, (db.Model,), members | {"send_signalbus_message": lambda self: None}))
        with app.app_context():
            self.engines = {key: db.engines[key] for key in (None, "far")}
            for engine in self.engines.values():
                limit_connections(engine)
            db.create_all()
            specs = db.signalbus.specs()
        self.recorder = Recorder(NAMES, databases=len(NAMES))
        runtime = self.recorder.runtime
        self.scheduler = Scheduler(NAMES)
        self.stores = RetryStores(specs, self.engines, RetryPolicy(), BurstLimits())
        self.ends = UntilEmpty(len(NAMES), self.scheduler, 60, runtime.clock)
        self.requests = {key: PollRequests() for key in self.engines}
        self.loops = {key: self._loop(key, [one for one in specs if one.bind_key == key]) for key in self.engines}
        self.threads = [threading.Thread(target=loop.run, daemon=True) for loop in self.loops.values()]

    def _loop(self, bind_key: str | None, specs: list[Any]) -> PollLoop:
        runtime, states = self.recorder.runtime, {spec.name: ModelState(spec) for spec in specs}
        database = PolledDatabase(bind_key, self.engines[bind_key], specs)
        paused = PausedModels(self.scheduler, runtime)
        poller = Poller(database, states, self.stores, paused, self.scheduler, runtime)
        unreached = Unreached(states, self.stores, EmptyBursts(), self.recorder.incidents, runtime)
        parts = (poller, self.scheduler, self.requests[bind_key], PollInterval(0.05), unreached, runtime)
        return PollLoop(*parts, self.ends)

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def write(self, bind_key: str | None, *keys: int) -> None:
        table = self.loops[bind_key]._poller.database.specs[0].table
        with self.engines[bind_key].begin() as connection:
            connection.execute(sa.insert(table), [{"id": key} for key in keys])

    def turn(self) -> str | None:
        """What a worker does with the next model; return its name if something was sent."""
        if (name := self.scheduler.take(0)) is None:
            return None
        with self.engines[None].begin() as connection:
            sent = connection.exec_driver_sql(f"DELETE FROM {name.lower()}").rowcount
        self.scheduler.give_back(name, more=False, sent=bool(sent))
        return name if sent else None

    def end(self) -> None:
        self.recorder.stop.set()
        for requests in self.requests.values():
            requests.close()

    @property
    def ended(self) -> StopRequest | None:
        return self.recorder.stop.next_request(0)


@pytest.fixture
def proxy(database_url: str) -> Iterator[FaultProxy]:
    parts = urlsplit(database_url)
    with FaultProxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


@pytest.fixture
def polled(database_url: str, proxy: FaultProxy) -> Iterator[Polled]:
    polled = Polled(database_url, database_url.replace(f":{urlsplit(database_url).port}/", f":{proxy.port}/"))
    yield polled
    polled.end()
    # Nobody waits for a server that says nothing.
    proxy.reset()
    proxy.forward()
    for thread in polled.threads:
        thread.join(20)
    for engine in polled.engines.values():
        engine.dispose()


def test_a_silent_database_delays_the_polls_of_no_other(polled: Polled, proxy: FaultProxy) -> None:
    polled.write("far", 1)
    polled.start()
    near, far = polled.requests[None], polled.requests["far"]
    assert eventually(lambda: near.last() > 1 and far.last() > 1)
    assert polled.recorder.health.database == "up"
    proxy.blackhole()
    stuck = far.last()
    polled.write(None, 1)
    before = near.last()
    assert eventually(lambda: near.last() > before + 2)
    assert polled.scheduler.take(10, "w") == "Far"
    assert polled.scheduler.take(10, "v") == "Near"
    assert far.last() <= stuck + 1


def test_relay_is_not_ready_before_all_databases_have_answered(polled: Polled, proxy: FaultProxy) -> None:
    proxy.blackhole()
    polled.start()
    assert eventually(lambda: polled.requests[None].last() > 2)
    assert polled.recorder.health.database != "up"


def test_relay_ends_as_empty_once_every_database_is(polled: Polled) -> None:
    """A burst of one database writes into the other, which was empty when it was polled last."""
    polled.write("far", 1)
    polled.loops[None]._interval = PollInterval(3600)
    polled.start()
    assert eventually(lambda: polled.requests[None].last())
    polled.write(None, 1)
    assert eventually(polled.turn) == "Far"
    assert eventually(polled.turn) == "Near"
    polled.requests[None].poll_now()
    request = eventually(lambda: None if polled.turn() else polled.ended)
    assert request is not None
    assert request.exit_code == EXIT_OK
