"""The low-water mark against a real PostgreSQL: dead rows are not read, and no signal below the mark is forgotten."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.poller.backlog_meter import MEASURE_EVERY_SECONDS
from relay.poller.database import PolledDatabase
from relay.poller.pauses import PausedModels
from relay.poller.poller import Poller
from relay.scheduler import Scheduler
from relay.worker.backoff import Backoff
from relay.worker.broker_connections import BrokerConnections
from relay.worker.bursts import Bursts
from relay.worker.low_water import COSTS_AT_MOST_ONE_IN, LowWater, Scan
from relay.worker.model_state import ModelState
from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import RetryStores
from relay.worker.worker import Worker
from signalbus_core import SignalBusMixin
from signalbus_core.lowlevel import FIRST_KEY, BurstLimits, has_integer_key
from signalbus_core.sql.transaction import settings_option
from tests.support.clock import Clock
from tests.support.recorder import Recorder

#: What a scan from the start takes here, by the clock of the tests, whatever it takes in truth.
LONG_SECONDS = 6.0

#: What is below the mark is found within so long, and then by the next look.
BOUND_SECONDS = COSTS_AT_MOST_ONE_IN * LONG_SECONDS


class Database(SignalBusMixin, SQLAlchemy):
    pass


class LongScans(LowWater):
    """The mark of a model with so many dead rows that a scan from the start takes long."""

    def record_scan(self, scan: Scan, lowest: object, took_seconds: float) -> None:
        super().record_scan(scan, lowest, LONG_SECONDS if scan.is_deep else 0.0)


class Relay:
    """An application with one signal model in bursts of ten, a worker, and a poller."""

    def __init__(self, url: str, key: Any = sa.BigInteger) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.db = db = Database(self.app)
        self.sent: list[Any] = []
        self.bad: set[Any] = set()
        self.is_away = False
        relay = self

        class Order(db.Model):  # type: ignore[name-defined,misc]
            signalbus_burst_count = 10
            id = db.Column(key, primary_key=True)

            def send_signalbus_message(self) -> None:
                if relay.is_away:
                    raise ConnectionRefusedError("nothing listens there")
                if self.id in relay.bad:
                    raise ValueError("bad")
                relay.sent.append(self.id)

        self.model = Order
        with self.app.app_context():
            db.create_all()
            self.engine = db.engine
            specs = db.signalbus.specs()
        self.url = self.engine.url.render_as_string(hide_password=False).replace("+psycopg2", "")
        self.clock = Clock(1000.0)
        self.low_water = LongScans(is_kept=has_integer_key(specs[0]))
        self.progress = ModelState(specs[0], Backoff(uniform=lambda _low, _high: 0.0), low_water=self.low_water)
        recorder = Recorder(["Order"], self.clock, "test.low_water")
        self.metrics, runtime = recorder.metrics, recorder.runtime
        rules = RetryPolicy(uniform=lambda _low, high: high)
        self.retry_stores = RetryStores(specs, {None: self.engine}, rules, BurstLimits(), self.clock)
        self.scheduler = Scheduler(["Order"], clock=self.clock)
        states = {"Order": self.progress}
        paused = PausedModels(self.scheduler, runtime)
        database = PolledDatabase(None, self.engine, specs)
        self.poller = Poller(database, states, self.retry_stores, paused, self.scheduler, runtime)
        self.worker = Worker(
            "worker-1",
            states,
            Bursts(self.app, db.signalbus, self.retry_stores, BurstLimits(), runtime),
            self.scheduler,
            BrokerConnections("worker-1", [], runtime),
            runtime,
        )
        self.statements: list[tuple[str, Any]] = []
        # First, so that what is noted has what is said before it.
        assert settings_option(self.engine, ())
        sa.event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        self.statements.append((statement, parameters))

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def write(self, *keys: Any) -> None:
        self.execute(*(f'INSERT INTO "order" VALUES ({key!r})' for key in keys))

    def look(self, *, thorough: bool = False) -> bool:
        return self.poller.run_once(thorough=thorough)

    def burst(self) -> None:
        self.scheduler.found(["Order"])
        self.worker.run_once()

    def drain(self) -> None:
        """Look, and send until nothing is found that is not left alone."""
        while self.look():
            before = len(self.sent)
            self.burst()
            if len(self.sent) == before:
                return

    def gauge(self, name: str) -> float:
        found = re.search(rf'^{name}{{signal="Order"}} (\S+)$', self.metrics.render().decode(), re.MULTILINE)
        assert found
        return float(found[1])

    @contextlib.contextmanager
    def session(self) -> Iterator[Any]:
        connection = psycopg2.connect(self.url, connect_timeout=10)
        with contextlib.closing(connection), connection.cursor() as cursor:
            yield cursor


@pytest.fixture
def relay(database_url: str) -> Iterator[Relay]:
    relay = Relay(database_url)
    yield relay
    relay.engine.dispose()


def found_within_the_bound(relay: Relay) -> None:
    """What is below the mark now is not found before a scan from the start is due, and then it is."""
    assert not relay.look()
    relay.clock.now += BOUND_SECONDS - 0.1
    assert not relay.look()
    relay.clock.now += 0.1
    assert relay.look()


# What is below the mark is found


def test_lower_key_committed_late_is_sent_within_stated_time(relay: Relay) -> None:
    with relay.session() as late:
        late.execute('INSERT INTO "order" VALUES (5)')
        relay.write(*range(10, 40))
        relay.drain()
        assert sorted(relay.sent) == list(range(10, 40))
        assert relay.low_water.mark == 30
        late.connection.commit()
        found_within_the_bound(relay)
        relay.burst()
        assert relay.sent[-1] == 5
        relay.clock.now += BOUND_SECONDS
        assert not relay.look()


def test_signals_that_another_relay_had_locked_and_gave_back_are_sent_within_the_stated_time(relay: Relay) -> None:
    relay.write(*range(1, 31))
    with relay.session() as other:
        other.execute('SELECT FROM "order" WHERE id <= 10 FOR UPDATE')
        relay.look()
        relay.burst()
        relay.burst()
        assert relay.sent == list(range(11, 31))
        assert relay.low_water.mark == 21
        assert not relay.look()
        other.connection.rollback()
    found_within_the_bound(relay)
    relay.burst()
    assert sorted(relay.sent) == list(range(1, 31))


def test_keys_that_app_sets_back_are_sent_within_stated_time(relay: Relay) -> None:
    relay.write(*range(1000, 1010))
    relay.drain()
    relay.write(3, 1, -7, FIRST_KEY)
    found_within_the_bound(relay)
    assert relay.low_water.mark == FIRST_KEY
    relay.drain()
    assert relay.sent[10:] == [FIRST_KEY, -7, 1, 3]
    # The new keys are the lowest from now on, and the old ones are not forgotten.
    relay.write(4, 2000)
    relay.drain()
    assert relay.sent[14:] == [4, 2000]


@pytest.mark.parametrize("what_fails", ["sending", "locking"])
def test_after_a_burst_that_failed_next_one_begins_at_first_key(relay: Relay, what_fails: str) -> None:
    relay.write(*range(1, 31))
    with relay.session() as other:
        other.execute('SELECT FROM "order" WHERE id <= 10 FOR UPDATE')
        relay.look()
        relay.burst()
    assert relay.sent == list(range(11, 21))
    if what_fails == "sending":
        relay.is_away = True
    else:
        relay.execute('ALTER TABLE "order" RENAME TO away')
    relay.burst()
    relay.is_away = False
    if what_fails == "locking":
        relay.execute('ALTER TABLE away RENAME TO "order"')
    before = len(relay.sent)
    relay.clock.now += 1
    relay.burst()
    assert relay.sent[before:] == [1], "a single signal, the lowest, after an outage"


def test_signals_set_aside_below_mark_are_tried_again_by_keys(relay: Relay) -> None:
    relay.bad = {1}
    relay.write(*range(1, 40))
    relay.look()
    while len(relay.sent) < 38:
        relay.burst()
    assert (relay.low_water.mark or 0) > 1
    relay.bad = set()
    relay.execute("UPDATE signalbus_parked SET next_try_at = now()")
    assert relay.look()
    relay.burst()
    assert relay.sent[-1] == 1


def test_a_thorough_look_finds_what_is_below_the_mark(relay: Relay) -> None:
    relay.write(10)
    relay.drain()
    relay.write(5)
    assert not relay.look()
    assert relay.poller.covered_everything
    assert not relay.poller.covered_every_key
    assert relay.look(thorough=True)
    assert relay.poller.covered_every_key


def test_thorough_poll_that_measures_finds_what_is_below_mark(relay: Relay) -> None:
    relay.write(10)
    relay.drain()
    relay.clock.now += MEASURE_EVERY_SECONDS
    relay.write(5)
    relay.statements.clear()
    assert relay.look(thorough=True)
    [both] = [statement for statement, _ in relay.statements if 'FROM "order"' in statement]
    assert "count(*)" in both


def test_flushmany_heeds_no_mark(relay: Relay) -> None:
    relay.write(10)
    relay.drain()
    relay.write(5)
    with relay.app.app_context():
        assert relay.db.signalbus.flushmany() == 1
    assert relay.sent == [10, 5]


def test_keys_that_are_no_integers_have_no_mark(database_url: str) -> None:
    relay = Relay(database_url, key=sa.Text)
    relay.write("b")
    relay.drain()
    relay.write("a")
    assert relay.look()
    relay.drain()
    assert (relay.sent, relay.low_water.mark) == (["b", "a"], None)
    relay.engine.dispose()


# Backlog and lag


def test_backlog_has_signals_below_mark_that_are_set_aside(relay: Relay) -> None:
    relay.bad = {1}
    relay.write(*range(1, 21))
    relay.look()
    while len(relay.sent) < 19:
        relay.burst()
    relay.write(50, 51)
    relay.clock.now += MEASURE_EVERY_SECONDS
    relay.look()
    for _ in range(2):
        relay.look()
        assert relay.gauge("signalbus_backlog_signals") == 3
        relay.clock.now += MEASURE_EVERY_SECONDS


def test_the_backlog_has_late_signals_as_soon_as_they_are_found(relay: Relay) -> None:
    relay.write(*range(10, 20))
    relay.drain()
    relay.write(5, 50)
    relay.clock.now += MEASURE_EVERY_SECONDS
    relay.look()
    assert relay.gauge("signalbus_backlog_signals") == 1
    relay.clock.now += BOUND_SECONDS
    relay.look()
    assert relay.gauge("signalbus_backlog_signals") == 2


# Dead rows


def buffers(relay: Relay, statement: str, parameters: Any) -> int:
    """How many pages of eight kilobytes a statement reads, from memory or disk."""
    found = re.fullmatch(r"((?:SET LOCAL [^;]*; )*)(.*)", statement, re.DOTALL)
    assert found is not None
    settings, statement = found.groups()
    with relay.session() as cursor:
        if settings:
            cursor.execute(settings)
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        [(answer,)] = cursor.fetchall()
    plan = (answer if isinstance(answer, list) else json.loads(answer))[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def looking_and_sending(relay: Relay) -> dict[str, tuple[str, Any]]:
    """The statements of a look that measures, and of a burst."""
    relay.clock.now += MEASURE_EVERY_SECONDS
    relay.statements.clear()
    relay.look()
    relay.burst()
    [look, gauges] = [one for one in relay.statements if "AS model" in one[0]]
    [(number, (burst, values))] = [
        (number, one) for number, one in enumerate(relay.statements) if "FOR UPDATE SKIP LOCKED" in one[0]
    ]
    # A burst that asks for sizes first says its settings by themselves.
    said = "".join(f"{text}; " for text, _ in relay.statements[:number] if re.match(r"SET LOCAL \w+ = off", text))
    return {"look": look, "gauges": gauges, "burst": (said + burst, values)}


def test_with_dead_rows_below_neither_bursts_nor_looks_nor_gauges_read_them(relay: Relay) -> None:
    dead = 100_000
    relay.execute('ALTER TABLE "order" SET (autovacuum_enabled = false)')
    relay.execute(f'INSERT INTO "order" SELECT n FROM generate_series(1, {dead}) n')
    with relay.session() as snapshot:
        snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        snapshot.execute("SELECT 1")
        relay.execute('DELETE FROM "order"', 'ANALYZE "order"')
        relay.write(*range(dead + 1, dead + 101))
        relay.low_water.is_kept = False
        from_start = {name: buffers(relay, *one) for name, one in looking_and_sending(relay).items()}
        relay.low_water.is_kept = True
        looking_and_sending(relay)
        from_mark = {name: buffers(relay, *one) for name, one in looking_and_sending(relay).items()}
    assert all(read > dead / 1000 for read in from_start.values()), from_start
    assert all(read * 10 < from_start[name] for name, read in from_mark.items()), (from_start, from_mark)


@pytest.mark.parametrize("is_kept", [True, False], ids=["with a mark", "without"])
def test_full_table_that_counts_as_empty_is_not_read_as_whole(relay: Relay, is_kept: bool) -> None:
    many = 100_000
    relay.execute('ALTER TABLE "order" SET (autovacuum_enabled = false)')
    # Their keys are not those of the rows that follow: dead rows between these would be read as well.
    relay.write(*range(-1000, -1))
    relay.execute('ANALYZE "order"', 'DELETE FROM "order"')
    with relay.session() as writer:
        writer.execute(f'INSERT INTO "order" SELECT n FROM generate_series(1, {many}) n')
        # As autovacuum may do at that time.
        relay.execute('ANALYZE "order"')
        writer.execute("COMMIT")
    with relay.session() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = '\"order\"'::regclass")
        assert cursor.fetchall() == [(0,)]
    relay.low_water.is_kept = is_kept
    relay.look()
    read = {name: buffers(relay, *one) for name, one in looking_and_sending(relay).items()}
    assert read.pop("gauges") < 150, "of the backlog, ten thousand are counted"
    assert all(pages < 90 for pages in read.values()), read
