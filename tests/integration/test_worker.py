"""One turn of a worker, against a real PostgreSQL."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.announce import Announcer
from relay.broker import BrokerLink
from relay.dispatch import Dispatcher
from relay.health import Health
from relay.metrics import Metrics
from relay.pacing import Backoff
from relay.parking import ParkingRules
from relay.progress import ModelProgress
from relay.schedule import Schedule
from relay.shelf import Shelves
from relay.status import Status
from relay.unreached import DIAGNOSE_EVERY_SECONDS, UNREACHED_AFTER_SECONDS, EmptyBursts, Unreached
from relay.worker import Worker
from signalbus_core import BurstLimits, SignalBusMixin
from tests.support.clock import Clock


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Turns:
    """An application with one signal model, whose send method raises what a signal asks for, and a worker."""

    def __init__(self, database_url: str, burst_count: int = 1) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = Database(self.app)

        class Order(db.Model):  # type: ignore[name-defined,misc]
            signalbus_burst_count = burst_count
            id = db.Column(db.Integer, primary_key=True)
            note = db.Column(db.Text)

            def send_signalbus_message(self) -> None:
                if self.note == "bad":
                    raise ValueError("bad")
                if self.note == "away":
                    raise ConnectionRefusedError("nothing listens there")

        self.model = Order
        with self.app.app_context():
            db.create_all()
            self.engine = db.engine
            specs = db.signalbus.specs()
        self.clock = Clock(1000.0)
        suspicion = Backoff(uniform=lambda _low, high: high)
        self.progress = ModelProgress(specs[0], Backoff(uniform=lambda _low, _high: 0.0), suspicion)
        self.metrics, self.health = Metrics(), Health(60, self.clock)
        self.status = Status(["Order"], self.clock)
        self.metrics.prepare(["Order"])
        announcer = Announcer(logging.getLogger("test.worker"), self.clock)
        self.shelves = Shelves(specs, {None: self.engine}, ParkingRules(), BurstLimits(), self.clock)
        self.shelves.use_table(None, True)
        self.dispatcher = Dispatcher(Schedule(["Order"]), self.clock)
        self.worker = Worker(
            "worker-1",
            self.app,
            db.signalbus,
            {"Order": self.progress},
            self.shelves,
            BurstLimits(),
            self.dispatcher,
            BrokerLink("worker-1", [], self.metrics, self.health, announcer),
            self.metrics,
            self.health,
            announcer,
            threading.Event(),
            self.clock,
            self.status,
        )
        self.health.set_state("running")
        self.health.set_database("up")

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def turn(self) -> None:
        self.clock.now += 60
        self.dispatcher.found(["Order"])
        self.worker.run_once()

    def bursts(self) -> dict[str, int]:
        text = self.metrics.render().decode()
        found = re.findall(r'^signalbus_bursts_total{outcome="(\w+)".*} (\S+)$', text, re.MULTILINE)
        return {outcome: int(float(number)) for outcome, number in found if float(number)}


@pytest.fixture
def turns(database_url: str) -> Iterator[Turns]:
    turns = Turns(database_url)
    yield turns
    turns.engine.dispose()


def test_a_burst_whose_failure_cannot_be_noted_is_counted_once_and_its_model_waits(
    turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    turns.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no notes'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON signalbus_parked EXECUTE FUNCTION refuse()",
        """INSERT INTO "order" VALUES (1, 'bad')""",
    )
    turns.turn()
    assert turns.bursts() == {"failed": 1}
    assert "no notes" in caplog.text


def test_a_suspect_that_was_deleted_meanwhile_is_none_any_more(turns: Turns) -> None:
    turns.execute("""INSERT INTO "order" VALUES (1, 'away')""")
    turns.turn()
    assert turns.progress.avoided() == [(1,)]
    turns.execute('DELETE FROM "order"')
    turns.turn()
    assert turns.progress.avoided() == []


def test_a_suspect_that_another_relay_is_trying_stays_one(turns: Turns) -> None:
    turns.execute("""INSERT INTO "order" VALUES (1, 'away')""")
    turns.turn()
    with turns.engine.begin() as connection:
        connection.execute(sa.text('SELECT FROM "order" FOR UPDATE'))
        turns.turn()
    assert turns.progress.avoided() == [(1,)]


@pytest.mark.parametrize("is_locked", [True, False])
def test_notes_in_memory_are_forgotten_of_signals_that_are_gone_and_kept_of_locked_ones(
    turns: Turns, is_locked: bool
) -> None:
    turns.shelves.use_table(None, False)
    turns.execute("""INSERT INTO "order" VALUES (1, 'bad')""")
    turns.turn()
    assert turns.shelves["Order"].count() == (1, 0)
    turns.progress.retry_is_due()
    with turns.engine.begin() as connection:
        connection.execute(sa.text('SELECT FROM "order" FOR UPDATE' if is_locked else 'TRUNCATE "order"'))
        if not is_locked:
            connection.commit()
        turns.turn()
    assert turns.shelves["Order"].count() == (int(is_locked), 0)


def test_a_suspect_is_sent_alone_and_its_model_has_recovered(turns: Turns, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "test.worker")
    turns.execute("""INSERT INTO "order" VALUES (1, 'away')""")
    turns.turn()
    turns.execute("""INSERT INTO "order" VALUES (2, 'good')""", """UPDATE "order" SET note = 'good' WHERE id = 1""")
    turns.turn()
    assert left(turns) == [2]
    assert [record.__dict__["action"] for record in caplog.records] == ["model_failing", "model_recovered"]


def left(turns: Turns) -> list[Any]:
    with turns.engine.connect() as connection:
        return list(connection.scalars(sa.text('SELECT id FROM "order"')))


def test_signals_flow_when_some_are_sent_or_others_are_sending_them_and_not_otherwise(turns: Turns) -> None:
    turns.execute("""INSERT INTO "order" VALUES (1, 'away')""")
    turns.turn()
    turns.turn()
    assert turns.health.readiness()["reasons"] == ["signals are pending, and none was sent for 120 s"]
    with turns.engine.begin() as connection:
        connection.execute(sa.text('SELECT * FROM "order" FOR UPDATE'))
        turns.turn()
        assert turns.health.readiness()["ready"]
    turns.execute("""UPDATE "order" SET note = 'good'""")
    turns.clock.now += 600
    assert not turns.health.readiness()["ready"]
    turns.turn()
    assert turns.health.readiness()["ready"]


def test_the_board_shows_what_was_sent_and_what_the_worker_did_last(turns: Turns) -> None:
    turns.execute("""INSERT INTO "order" VALUES (1, 'good')""")
    turns.turn()
    assert turns.status.models()[0].sent == 1
    [worker] = turns.status.workers()
    assert (worker.doing, worker.model, worker.signals) == ("sending", "Order", 1)


def test_signals_are_out_of_reach_when_bursts_get_none_and_the_first_one_stays(turns: Turns) -> None:
    turns.execute("INSERT INTO \"order\" (note) VALUES ('one'), ('two')")
    bursts = EmptyBursts(turns.clock)
    announcer = Announcer(logging.getLogger("test.worker"), turns.clock)
    unreached = Unreached(
        {None: turns.engine}, {"Order": turns.progress}, turns.shelves, bursts, turns.health, announcer, turns.clock
    )

    def stuck_after(seconds: float) -> list[str]:
        turns.clock.now += seconds
        unreached.polled(["Order"])
        found: list[str] = turns.health.readiness()["stuck_models"]
        return found

    bursts.ended("Order", 0)
    assert stuck_after(UNREACHED_AFTER_SECONDS - DIAGNOSE_EVERY_SECONDS) == []
    turns.execute('DELETE FROM "order" WHERE id = 1')
    assert stuck_after(DIAGNOSE_EVERY_SECONDS) == [], "another relay sends what is there"
    assert stuck_after(DIAGNOSE_EVERY_SECONDS) == ["Order"]
    assert "Order: 1 signal is pending that no burst gets" in str(turns.health.readiness()["reasons"])
    bursts.ended("Order", 1)
    assert stuck_after(0.0) == []
