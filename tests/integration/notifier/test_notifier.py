"""The notifier against a real PostgreSQL: no wake-up is lost, and whatever breaks, polling goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.application.databases import limit_connections
from relay.notifier import thread as doorkeeper_module
from relay.notifier.thread import NotifyListener
from relay.notifier.wakeups import Wakeups
from relay.poller.requests import PollRequests
from signalbus_core import SignalBusMixin
from signalbus_core.lowlevel import FIRST_KEY, SignalSpec, doorbell
from tests.support.pgbouncer import PrivatePgBouncer
from tests.support.postgres import PrivatePostgres
from tests.support.recorder import Recorder
from tests.support.waiting import eventually

#: How long writers race against falling asleep. `SIGNALBUS_TEST_RACE_SECONDS=600` looks for what is rare.
RACE_SECONDS = float(os.environ.get("SIGNALBUS_TEST_RACE_SECONDS", "5"))

#: Within so long the race has been close often enough, on a machine that is busy with other things as well.
RACED_WITHIN_SECONDS = 120

#: A committed signal is found within so long, on a machine that is busy with other things as well.
FOUND_WITHIN_SECONDS = 20


#: The advisory locks of the database of a test: the server may have others.
OWN_LOCKS = (
    "pg_locks WHERE locktype = 'advisory' AND database = "
    "(SELECT oid FROM pg_database WHERE datname = current_database())"
)
WAITING = f"SELECT count(*) FROM {OWN_LOCKS} AND NOT granted"


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Outbox:
    """Two signal tables, without a relay."""

    def __init__(self, url: str) -> None:
        app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        db = Database(app)
        members = {"send_signalbus_message": lambda self: None}
        self.models = [
            type(name, (db.Model,), {**members, "id": db.Column(sa.BigInteger, primary_key=True)})
            for name in ("First", "Second")
        ]
        with app.app_context():
            db.create_all()
            self.specs = db.signalbus.specs()
            self.engine = db.engine
        limit_connections(self.engine)

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def ask(self, statement: str) -> Any:
        with self.engine.connect() as connection:
            return connection.scalar(sa.text(statement))


class Answers(Wakeups):
    """What a bell leads to in these tests: a look from the mark on, and then one at every row."""

    def __init__(self, looks: PollRequests) -> None:
        self.requests = looks
        self.stepping: set[str] = set()
        self._quiet_after = 0

    def on_change(self, listener: Callable[[], None]) -> None:
        self.requests.on_end(listener)

    def rung(self, models: Collection[str]) -> None:
        self.requests.poll_now(cause="doorbell")

    def begin_steps(self, models: Iterable[str]) -> None:
        self.stepping |= set(models)
        self._quiet_after = self.requests.poll_now()

    def end_steps(self, models: Iterable[str]) -> None:
        self.stepping -= set(models)

    def quiet(self) -> set[str]:
        return set(self.stepping) if self.requests.last() >= self._quiet_after else set()


class Watch:
    """A notifier with a probe's thread that looks only when it is asked to: there is no poll that could help.

    It looks from the low-water mark on, the lowest key that it saw last, unless it is to be thorough.
    """

    def __init__(
        self,
        outbox: Outbox,
        specs: list[SignalSpec] | None = None,
        engine: sa.Engine | None = None,
        paused: Container[str] = (),
    ) -> None:
        self.outbox = outbox
        recorder = Recorder()
        self.stop, self.health = recorder.stop, recorder.health
        self.looks = PollRequests()
        self.specs = specs or outbox.specs
        self.engine = engine or outbox.engine
        self.seen: set[int] = set()
        self.number_of_looks = self.below_mark = 0
        self.answers = Answers(self.looks)
        self.notifier = NotifyListener(None, self.engine, self.specs, self.answers, paused, recorder.runtime)
        self._threads = [
            threading.Thread(target=self.notifier.run, daemon=True),
            threading.Thread(target=self._look_when_asked, daemon=True),
        ]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.looks.close()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _look_when_asked(self) -> None:
        with self.outbox.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            more, was_thorough = True, False
            marks = dict.fromkeys((spec.name for spec in self.specs), FIRST_KEY)
            while not self.stop.is_set():
                if not more:
                    self.looks.wait(3600)
                thorough = bool(self.looks.begin().to_cover) or not was_thorough
                self.number_of_looks += 1
                more = False
                for spec in self.specs:
                    from_mark = spec.table.c.id >= marks[spec.name]
                    delete = sa.delete(spec.table).where(sa.true() if thorough else from_mark)
                    found = set(connection.scalars(delete.returning(spec.table.c.id)))
                    self.below_mark += sum(number < marks[spec.name] for number in found)
                    marks[spec.name] = min(found, default=marks[spec.name])
                    self.seen |= found
                    more = more or bool(found)
                self.looks.end([spec.name for spec in self.specs] if thorough else [])
                # As workers do: what is rung and lies below the mark is found by the look after it.
                more, was_thorough = more or not thorough, thorough

    def sleeps_and_rings(self) -> tuple[int, int]:
        protocol = self.notifier.protocol
        return (protocol.sleeps, protocol.rings) if protocol is not None else (0, 0)

    def is_asleep(self, number: int = 1) -> bool:
        locks = f"{OWN_LOCKS} AND classid = {doorbell.SLEEP_LOCK} AND granted AND mode = 'ExclusiveLock'"
        return bool(self.outbox.ask(f"SELECT count(*) FROM {locks}") == number)


@pytest.fixture(autouse=True)
def _no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.poller.requests.LONGEST_AWAKE_PAUSE_SECONDS", 3600.0)


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    outbox.engine.dispose()


@contextlib.contextmanager
def session(url: Any) -> Iterator[Any]:
    connection = psycopg2.connect(str(url).replace("+psycopg2", ""), connect_timeout=10)
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


def url_of(outbox: Outbox) -> str:
    return outbox.engine.url.render_as_string(hide_password=False)


def heard(watch: Watch, number: int) -> Callable[[], bool]:
    return lambda: number in watch.seen


# No wake-up is lost


def test_a_signal_written_while_the_relay_sleeps_is_found(outbox: Outbox) -> None:
    with Watch(outbox) as watch:
        for number in range(1, 20):
            eventually(lambda: watch.is_asleep(2), 20)
            outbox.execute(f"INSERT INTO {('first', 'second')[number % 2]} VALUES ({number})")
            eventually(heard(watch, number), FOUND_WITHIN_SECONDS)


class Writer(threading.Thread):
    """Commits signals of both tables, in transactions of all kinds, until it is told to stop."""

    def __init__(self, url: str, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.first = number * 10_000_000
        self.stop = stop
        self.committed: dict[int, float] = {}
        self.error: BaseException | None = None

    def run(self) -> None:
        import random

        chance = random.Random(self.first)
        number = self.first
        try:
            with session(self.url) as cursor:
                while not self.stop.is_set():
                    number += 1
                    cursor.execute(f"INSERT INTO {chance.choice(('first', 'second'))} VALUES ({number})")
                    if chance.random() < 0.3:
                        self.stop.wait(chance.random() * 0.004)
                    if chance.random() < 0.2:
                        cursor.connection.rollback()
                        continue
                    cursor.connection.commit()
                    self.committed[number] = time.monotonic()
                    # Long enough for the notifier to fall asleep, and not longer: that is where the race is.
                    self.stop.wait(chance.random() * 0.012)
        except BaseException as error:
            self.error = error


def test_writers_race_against_falling_asleep_and_lose_no_signal(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that producers are silent, and ring again, as often as can be.
    monkeypatch.setattr("relay.scheduler.ring_rate.MOST_AT_ONCE", 3.0)
    monkeypatch.setattr("relay.scheduler.ring_rate.MOST_PER_SECOND", 1.0)
    stop = threading.Event()
    writers = [Writer(url_of(outbox), number, stop) for number in (1, 2, 3, 4)]
    with Watch(outbox) as watch:
        eventually(lambda: watch.is_asleep(2), 20)
        for writer in writers:
            writer.start()
        stop.wait(RACE_SECONDS)
        # A race that never fell asleep, or was never rung, would prove nothing. A busy machine takes longer for it.
        eventually(lambda: min(watch.sleeps_and_rings()) > RACE_SECONDS, RACED_WITHIN_SECONDS, "asleep, and rung")
        eventually(lambda: watch.below_mark > RACE_SECONDS, RACED_WITHIN_SECONDS, "keys come out of their order")
        stop.set()
        for writer in writers:
            writer.join(20)
        assert [writer.error for writer in writers] == [None] * 4
        committed = {number for writer in writers for number in writer.committed}
        eventually(lambda: committed <= watch.seen, FOUND_WITHIN_SECONDS, "every committed signal is found")
        assert watch.seen == committed
        logging.getLogger("test.doorkeeper").info(
            "%d signals, %d times asleep, %d bells", len(committed), *watch.sleeps_and_rings()
        )


def test_relay_that_is_rung_goes_on_sleeping(outbox: Outbox) -> None:
    with Watch(outbox) as watch:
        eventually(lambda: watch.sleeps_and_rings()[0] == 1, 20)
        for number in range(1, 11):
            outbox.execute(f"INSERT INTO first VALUES ({number})")
            eventually(heard(watch, number), FOUND_WITHIN_SECONDS)
            assert watch.is_asleep(2), "it keeps its locks"
        assert watch.sleeps_and_rings() == (1, 10)


def test_producers_that_ring_too_often_are_silent_for_a_while(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.scheduler.ring_rate.MOST_AT_ONCE", 3.0)
    monkeypatch.setattr("relay.scheduler.ring_rate.MOST_PER_SECOND", 0.0)
    with Watch(outbox) as watch:
        monkeypatch.setattr(watch.answers, "quiet", set)
        eventually(lambda: watch.sleeps_and_rings()[0] == 1, 20)
        for number in range(1, 5):
            outbox.execute(f"INSERT INTO first VALUES ({number})")
        eventually(lambda: watch.is_asleep(1), 20, "the lock of the other table is kept")
        eventually(lambda: watch.answers.stepping == {"First"}, 20)
        rings = watch.sleeps_and_rings()[1]
        outbox.execute("INSERT INTO first VALUES (5)", "INSERT INTO first VALUES (6)")
        outbox.execute("INSERT INTO second VALUES (7)")
        eventually(heard(watch, 7), FOUND_WITHIN_SECONDS)
        # Bells arrive in the order of the commits.
        assert watch.sleeps_and_rings()[1] == rings + 1

        monkeypatch.setattr(watch.answers, "quiet", lambda: {"First"})
        watch.looks.poll_now()
        eventually(lambda: watch.is_asleep(2), 20)
        eventually(heard(watch, 6), FOUND_WITHIN_SECONDS)
        assert watch.answers.stepping == set()
        outbox.execute("INSERT INTO first VALUES (8)")
        eventually(heard(watch, 8), FOUND_WITHIN_SECONDS)


def test_long_transaction_delays_its_own_signals_alone(outbox: Outbox) -> None:
    with session(url_of(outbox)) as slow:
        # It was silent, so the relay cannot fall asleep before it ends.
        slow.execute("INSERT INTO first VALUES (1)")
        with Watch(outbox) as watch:
            for number in range(2, 12):
                eventually(lambda: outbox.ask(WAITING) == 1, 20)
                outbox.execute(f"INSERT INTO first VALUES ({number})")
                eventually(heard(watch, number), FOUND_WITHIN_SECONDS)
            assert not watch.is_asleep(2)
            assert 1 not in watch.seen
            slow.connection.commit()
            eventually(heard(watch, 1), FOUND_WITHIN_SECONDS)
            eventually(lambda: watch.is_asleep(2), 20)


def test_producers_of_a_paused_model_are_silent_and_those_of_a_resumed_one_ring(outbox: Outbox) -> None:
    paused: set[str] = set()
    with Watch(outbox, paused=paused) as watch:
        eventually(lambda: watch.is_asleep(2), 20)
        paused.add("First")
        watch.looks.poll_now()
        eventually(lambda: watch.is_asleep(1), 20, "the sleep lock of the other table is kept")
        vigil = watch.notifier.protocol
        assert vigil is not None
        rings, looks = vigil.rings, watch.number_of_looks
        for number in range(1, 21):
            outbox.execute(f"INSERT INTO first VALUES ({number})")
        assert watch.number_of_looks == looks
        outbox.execute("INSERT INTO second VALUES (21)")
        eventually(heard(watch, 21), FOUND_WITHIN_SECONDS)
        # Bells arrive in the order of the commits.
        assert vigil.rings == rings + 1

        eventually(lambda: watch.is_asleep(1), 20)
        paused.clear()
        watch.looks.poll_now()
        eventually(lambda: watch.is_asleep(2), 20)
        outbox.execute("INSERT INTO first VALUES (22)")
        eventually(heard(watch, 22), FOUND_WITHIN_SECONDS)


def test_pausing_and_resuming_in_a_race_loses_no_wake_up(outbox: Outbox) -> None:
    stop = threading.Event()
    paused: set[str] = set()
    writers = [Writer(url_of(outbox), number, stop) for number in (1, 2)]
    with Watch(outbox, paused=paused) as watch:
        eventually(lambda: watch.is_asleep(2), 20)
        for writer in writers:
            writer.start()
        for number in range(41):
            (paused.discard if number % 2 else paused.add)("First")
            # As the look that sees it does.
            watch.looks.poll_now()
            stop.wait(0.05)
        paused.clear()
        watch.looks.poll_now()
        stop.wait(0.5)
        stop.set()
        for writer in writers:
            writer.join(20)
        assert [writer.error for writer in writers] == [None] * 2
        committed = {number for writer in writers for number in writer.committed}
        eventually(lambda: committed <= watch.seen, FOUND_WITHIN_SECONDS, "every committed signal is found")
        eventually(lambda: watch.is_asleep(2), 20)


# Who answers


def test_of_two_relays_one_answers_and_the_other_takes_over(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.notifier.protocol.TRY_EVERY_SECONDS", 0.3)
    with Watch(outbox) as second:
        with Watch(outbox) as first:
            eventually(lambda: first.is_asleep(2), 20)
            outbox.execute("INSERT INTO first VALUES (1)")
            eventually(lambda: 1 in first.seen | second.seen, FOUND_WITHIN_SECONDS)
        eventually(lambda: second.is_asleep(2), 20)
        outbox.execute("INSERT INTO first VALUES (2)", "INSERT INTO second VALUES (3)")
        eventually(lambda: {2, 3} <= second.seen, FOUND_WITHIN_SECONDS)


def test_relays_of_different_models_in_one_database_are_both_woken(outbox: Outbox) -> None:
    [first_spec, second_spec] = outbox.specs
    with Watch(outbox, [first_spec]) as first, Watch(outbox, [second_spec]) as second:
        eventually(lambda: first.is_asleep(2), 20)
        looks = first.number_of_looks
        outbox.execute("INSERT INTO second VALUES (2)")
        eventually(heard(second, 2), FOUND_WITHIN_SECONDS)
        assert first.number_of_looks == looks
        outbox.execute("INSERT INTO first VALUES (1)")
        eventually(heard(first, 1), FOUND_WITHIN_SECONDS)


# What breaks


def test_ended_sessions_are_opened_again(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "signalbus.relay")

    def told(action: str) -> int:
        return [getattr(record, "action", None) for record in caplog.records].count(action)

    with Watch(outbox) as watch:
        for number in (1, 2, 3):
            eventually(lambda: watch.is_asleep(2), 20)
            ended = outbox.ask(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'signalbus-relay doorkeeper' AND datname = current_database()"
            )
            assert ended == 2
            eventually(lambda number=number: told("doorbell_back") == number, 20)  # type: ignore[misc]
        eventually(lambda: watch.is_asleep(2), 20)
        outbox.execute("INSERT INTO first VALUES (1)")
        eventually(heard(watch, 1), FOUND_WITHIN_SECONDS)
    assert told("doorbell_lost") >= 3


def test_a_server_that_is_started_again_is_listened_to_again(private_postgres: PrivatePostgres) -> None:
    outbox = Outbox(private_postgres.create_database())
    looks, recorder = PollRequests(), Recorder(logger="test.doorkeeper")
    stop = recorder.stop
    notifier = NotifyListener(None, outbox.engine, outbox.specs, Answers(looks), (), recorder.runtime)
    thread = threading.Thread(target=notifier.run, daemon=True)
    thread.start()
    is_elected = f"SELECT count(*) = 2 FROM {OWN_LOCKS} AND classid = {doorbell.LEADER_LOCK} AND granted"
    try:
        eventually(lambda: outbox.ask(is_elected), 20)
        # What was not written when the server is killed is not there again: the tables should be.
        private_postgres.execute("CHECKPOINT")
        private_postgres.kill9()
        private_postgres.start()
        outbox.engine.dispose()
        eventually(lambda: outbox.ask(is_elected), 30)
    finally:
        stop.set()
        looks.close()
        thread.join(20)
    assert not thread.is_alive()
    outbox.engine.dispose()


def test_stop_request_is_heard_at_once_behind_long_transaction(outbox: Outbox) -> None:
    with session(url_of(outbox)) as slow:
        slow.execute("INSERT INTO first VALUES (1)")
        with Watch(outbox) as watch:
            eventually(lambda: outbox.ask(WAITING) == 1, 20)
            watch.stop.set()
            watch.looks.close()
            # The transaction goes on, so nothing else ends its waiting.
            watch._threads[0].join(FOUND_WITHIN_SECONDS)
            assert not watch._threads[0].is_alive()
        slow.connection.rollback()


def test_trigger_dropped_is_told_of_and_table_is_left_to_polling(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper_module, "CHECK_EVERY_SECONDS", 0.3)
    caplog.set_level(logging.INFO, "signalbus.relay")
    with Watch(outbox) as watch:
        eventually(lambda: watch.is_asleep(2), 20)
        outbox.execute("DROP TRIGGER signalbus_doorbell ON first")
        eventually(lambda: watch.is_asleep(1), 20)
        outbox.execute("INSERT INTO second VALUES (1)")
        eventually(heard(watch, 1), FOUND_WITHIN_SECONDS)
        [line] = [record for record in caplog.records if getattr(record, "action", None) == "doorbell_missing"]
        assert line.__dict__["signals"] == ["First"]
        outbox.execute(*doorbell.doorbell_sql("first"))
        eventually(lambda: watch.is_asleep(2), 20)


def test_behind_pooler_nothing_is_held_and_it_is_said_once(
    private_postgres: PrivatePostgres, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper_module, "CHECK_EVERY_SECONDS", 0.2)
    monkeypatch.setattr("relay.notifier.notification_test.RECEIVED_WITHIN_SECONDS", 0.5)
    with PrivatePgBouncer(private_postgres) as bouncer:
        bouncer.start()
        outbox = Outbox(bouncer.in_front_of(private_postgres.create_database()))
        tries: list[object] = []
        original = doorkeeper_module.check_notifications
        monkeypatch.setattr(doorkeeper_module, "check_notifications", lambda *args: (tries.append(1), original(*args)))
        with Watch(outbox):
            eventually(lambda: len(tries) >= 3, 30)
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert private_postgres.execute(locks) == [(0,)]
        outbox.engine.dispose()
    assert [getattr(record, "action", None) for record in caplog.records].count("doorbell_deaf") == 1
