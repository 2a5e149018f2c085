"""One turn of a worker, against a real PostgreSQL."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import OperationalError

from relay.poller.diagnosis.unreached import DIAGNOSE_EVERY_SECONDS, UNREACHED_AFTER_SECONDS, Unreached
from relay.scheduler import Scheduler
from relay.worker.backoff import Backoff
from relay.worker.broker_connections import BrokerConnections
from relay.worker.bursts import Bursts
from relay.worker.hanging import EmptyBursts
from relay.worker.model_state import ModelState
from relay.worker.plan import BurstDecision
from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import RetryStores
from relay.worker.worker import Worker
from signalbus_core import BurstError, Outcome, OutcomeKind, PartialDeliveryError, SignalBusMixin
from signalbus_core.lowlevel import BurstLimits, BurstResult, Proved
from tests.support.clock import Clock
from tests.support.recorder import Recorder


class Database(SignalBusMixin, SQLAlchemy):
    pass


NO_SETTINGS: Mapping[str, Any] = {}

#: Of a model whose rows are marked instead of deleted.
MARKED = {"signalbus_condition": "note <> 'sent'", "signalbus_done": (("note", "'sent'"),)}


def refused_by(destination: str) -> Outcome:
    return Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned", destination=destination)


class Turns:
    """An application with one signal model, whose send method raises what a signal asks for, and a worker."""

    def __init__(
        self, database_url: str, burst_count: int = 1, key: Any = sa.Integer, settings: Mapping[str, Any] = NO_SETTINGS
    ) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = Database(self.app)
        turns = self
        #: The notes of signals that their destination refuses, and the signals that the send method was given.
        self.dead = {"dead"}
        self.tried: list[int] = []
        #: The signals whose send method raised.
        self.raised: list[Any] = []

        class Order(db.Model):  # type: ignore[name-defined,misc]
            signalbus_burst_count = burst_count
            id = db.Column(key, primary_key=True, autoincrement=key is sa.Integer)
            note = db.Column(db.Text)

            def send_signalbus_message(self) -> None:
                if self.note in ("bad", "away"):
                    turns.raised.append(self.id)
                if self.note == "bad":
                    raise ValueError("bad")
                if self.note == "away":
                    raise ConnectionRefusedError("nothing listens there")
                type(self).send_signalbus_messages([self])

            @classmethod
            def send_signalbus_messages(cls, signals: list[Any]) -> None:
                turns.tried += [signal.id for signal in signals]
                if any(signal.note == "bad" for signal in signals):
                    raise ValueError("bad")
                dead = [signal for signal in signals if signal.note in turns.dead]
                if dead:
                    raise PartialDeliveryError(
                        delivered=[signal for signal in signals if signal not in dead],
                        failed=[(signal, refused_by(signal.note)) for signal in dead],
                    )

        for name, value in settings.items():
            setattr(Order, name, value)
        self.model = Order
        with self.app.app_context():
            db.create_all()
            self.engine = db.engine
            specs = db.signalbus.specs()
        self.clock = Clock(1000.0)
        suspicion = Backoff(uniform=lambda _low, high: high)
        self.progress = ModelState(specs[0], Backoff(uniform=lambda _low, _high: 0.0), suspicion)
        self.recorder = Recorder(["Order"], self.clock, "test.worker")
        self.metrics, self.health, self.status = self.recorder.metrics, self.recorder.health, self.recorder.status
        runtime = self.recorder.runtime
        self.retry_stores = RetryStores(specs, {None: self.engine}, RetryPolicy(3), BurstLimits(), self.clock)
        self.retry_stores.use_table(None, True)
        self.scheduler = Scheduler(["Order"], clock=self.clock)
        self.worker = Worker(
            "worker-1",
            {"Order": self.progress},
            Bursts(self.app, db.signalbus, self.retry_stores, BurstLimits(), runtime),
            self.scheduler,
            BrokerConnections("worker-1", [], runtime),
            runtime,
        )
        self.health.relay_changed("running")
        self.health.set_database("up")

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def turn(self) -> None:
        self.clock.now += 60
        self.scheduler.found(["Order"])
        self.worker.run_once()

    def turns_until(self, is_done: Callable[[], bool]) -> int:
        """Turns with no try that becomes due in between; return how many it took."""
        for number in range(1, 200):
            self.clock.now += 0.5
            self.scheduler.found(["Order"])
            self.worker.run_once()
            if is_done():
                return number
        raise AssertionError("it is never done")

    def make_due(self) -> None:
        self.clock.now += 600
        self.execute(
            "UPDATE signalbus_parked SET next_try_at = now() - (1000000 - key::int) * interval '1 ms'"
            " WHERE next_try_at IS NOT NULL"
        )
        self.progress.mark_retry_due()

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


def test_a_suspect_that_was_marked_as_sent_meanwhile_is_none_any_more(database_url: str) -> None:
    turns = Turns(database_url, settings=MARKED)
    turns.execute("""INSERT INTO "order" VALUES (1, 'away')""")
    turns.turn()
    assert turns.progress.avoided() == [(1,)]
    turns.execute("UPDATE \"order\" SET note = 'sent'")
    turns.turn()
    assert turns.progress.avoided() == []
    turns.engine.dispose()


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
    turns.retry_stores.use_table(None, False)
    turns.execute("""INSERT INTO "order" VALUES (1, 'bad')""")
    turns.turn()
    assert turns.retry_stores["Order"].count() == (1, 0)
    turns.progress.mark_retry_due()
    with turns.engine.begin() as connection:
        connection.execute(sa.text('SELECT FROM "order" FOR UPDATE' if is_locked else 'TRUNCATE "order"'))
        if not is_locked:
            connection.commit()
        turns.turn()
    assert turns.retry_stores["Order"].count() == (int(is_locked), 0)


def test_a_suspect_is_sent_alone_and_its_model_has_recovered(turns: Turns, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "test.worker")
    turns.execute("""INSERT INTO "order" VALUES (1, 'away')""")
    turns.turn()
    turns.execute("""INSERT INTO "order" VALUES (2, 'good')""", """UPDATE "order" SET note = 'good' WHERE id = 1""")
    turns.turn()
    assert left(turns) == [2]
    assert [record.__dict__["action"] for record in caplog.records] == ["model_failing", "model_recovered"]


@pytest.fixture
def many(database_url: str) -> Iterator[Turns]:
    turns = Turns(database_url, burst_count=500)
    yield turns
    turns.engine.dispose()


def test_a_dead_destination_costs_a_healthy_signal_few_bursts(many: Turns) -> None:
    many.execute("""INSERT INTO "order" SELECT n, CASE n WHEN 5001 THEN 'good' ELSE 'dead' END
                    FROM generate_series(1, 5001) n""")
    assert many.turns_until(lambda: 5001 in many.tried) < 15


def test_after_a_lock_timeout_bursts_are_soon_as_large_as_before(many: Turns) -> None:
    many.execute("""INSERT INTO "order" SELECT n, CASE n WHEN 5001 THEN 'good' ELSE 'dead' END
                    FROM generate_series(1, 5001) n""")
    many.progress.interrupted(OperationalError("SELECT", {}, Exception("canceling statement due to lock timeout")))
    assert many.turns_until(lambda: 5001 in many.tried) < 25


@pytest.mark.parametrize("has_table", [True, False])
def test_one_message_tries_for_a_dead_destination_and_all_follow_when_it_arrives(many: Turns, has_table: bool) -> None:
    many.retry_stores.use_table(None, has_table)
    many.execute("""INSERT INTO "order" SELECT n, 'dead' FROM generate_series(1, 300) n""")
    many.turns_until(lambda: sum(many.retry_stores["Order"].count()) == 300)
    many.tried.clear()

    many.make_due()
    many.turns_until(lambda: many.tried != [])
    many.turns_until(lambda: True)
    assert len(many.tried) == 1

    many.dead.clear()
    many.make_due()
    assert many.turns_until(lambda: left(many) == []) < 10
    assert len(many.tried) == 301
    assert many.retry_stores["Order"].count() == (0, 0)


def test_a_due_signal_whose_row_is_locked_keeps_no_other_waiting(many: Turns) -> None:
    many.execute("""INSERT INTO "order" SELECT n, 'bad' FROM generate_series(1, 9) n""")
    many.turns_until(lambda: many.retry_stores["Order"].count() == (9, 0))
    many.execute('TRUNCATE "order"', """INSERT INTO "order" SELECT n, 'good' FROM generate_series(1, 9) n""")
    many.execute('UPDATE signalbus_parked SET row_version = (SELECT xmin::text FROM "order" WHERE id = key::int)')
    many.make_due()
    with many.engine.begin() as other:
        other.execute(sa.text('SELECT FROM "order" WHERE id = 1 FOR UPDATE'))
        many.turns_until(lambda: left(many) == [1])


def test_what_a_sender_raises_for_every_signal_parks_none(turns: Turns) -> None:
    turns.execute("""INSERT INTO "order" VALUES (1, 'bad'), (2, 'bad'), (3, 'bad')""")
    for _ in range(12):
        turns.turn()
        turns.make_due()
    assert turns.retry_stores["Order"].count() == (3, 0)
    assert noted(turns) == [(1, 1), (2, 1), (3, 1)]


def test_what_a_sender_raises_for_one_signal_parks_it_while_others_are_sent(turns: Turns) -> None:
    turns.execute("""INSERT INTO "order" VALUES (1, 'bad')""")
    for number in range(2, 8):
        turns.execute(f"""INSERT INTO "order" VALUES ({number}, 'good')""")
        turns.turn()
        turns.turn()
        turns.make_due()
        # The clock of the database stands nearly still.
        turns.execute("UPDATE signalbus_parked SET last_failed_at = now() - interval '1 h'")
        turns.turn()
    assert turns.retry_stores["Order"].count() == (0, 1)
    assert left(turns) == [1]


def noted(turns: Turns) -> list[tuple[int, int]]:
    with turns.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT key::int, attempts FROM signalbus_parked ORDER BY 1"))
        return [(row[0], row[1]) for row in rows]


#: What becomes of a good signal instead of a delete: statements of a trigger, or of a rule.
KEPT = {
    "raises": "RAISE EXCEPTION 'kept'",
    "marks": """UPDATE "order" SET note = note WHERE id = OLD.id; RETURN NULL""",
}


@pytest.fixture
def kept(turns: Turns, request: pytest.FixtureRequest) -> Turns:
    """A signal that is sent, and that the database does not let be deleted."""
    what = KEPT[getattr(request, "param", "raises")]
    turns.execute(
        """INSERT INTO "order" VALUES (1, 'good')""",
        f"CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; END $$",
        """CREATE TRIGGER keep BEFORE DELETE ON "order" FOR EACH ROW WHEN (OLD.note = 'good')
           EXECUTE FUNCTION keep()""",
    )
    turns.progress._rehearse_from = float("inf")
    return turns


@pytest.mark.parametrize("kept", KEPT, indirect=True)
@pytest.mark.parametrize("has_table", [True, False])
def test_what_was_sent_and_undeletable_is_sent_once_and_parked(
    kept: Turns, has_table: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kept.retry_stores.use_table(None, has_table)
    for _ in range(10):
        kept.progress._rehearse_from = float("inf")
        kept.turn()
        if has_table:
            kept.execute("UPDATE signalbus_parked SET next_try_at = now() WHERE next_try_at IS NOT NULL")
        kept.progress.mark_retry_due()
    assert kept.tried == [1]
    assert kept.retry_stores["Order"].count() == (0, 1)
    assert "was sent; cannot be deleted: " in caplog.text
    kept.execute("""INSERT INTO "order" VALUES (2, 'other')""")
    kept.turn()
    kept.turn()
    assert kept.tried == [1, 2]

    kept.execute('DROP TRIGGER keep ON "order"')
    if has_table:
        kept.execute("UPDATE signalbus_parked SET next_try_at = now()")
        kept.progress.mark_retry_due()
        kept.turns_until(lambda: left(kept) == [])
        assert kept.retry_stores["Order"].count() == (0, 0)
        assert kept.tried == [1, 2]


def test_a_mark_that_a_trigger_takes_back_is_sent_once(database_url: str) -> None:
    turns = Turns(database_url, settings=MARKED)
    turns.execute(
        """INSERT INTO "order" VALUES (1, 'good'), (2, 'taken back')""",
        "CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        """ UPDATE "order" SET note = OLD.note WHERE id = OLD.id; RETURN NULL; END $$""",
        """CREATE TRIGGER back AFTER UPDATE ON "order" FOR EACH ROW
           WHEN (OLD.note = 'taken back' AND NEW.note = 'sent') EXECUTE FUNCTION back()""",
    )
    for _ in range(6):
        turns.progress._rehearse_from, turns.progress._can_keep_rows = float("inf"), True
        turns.turn()
        turns.execute("UPDATE signalbus_parked SET next_try_at = now() WHERE next_try_at IS NOT NULL")
        turns.progress.mark_retry_due()
    turns.engine.dispose()
    assert turns.tried == [1, 2]
    assert turns.retry_stores["Order"].count() == (0, 1)


def test_what_was_sent_before_there_was_table_is_not_sent_again(kept: Turns) -> None:
    kept.retry_stores.use_table(None, False)
    kept.turn()
    assert kept.retry_stores["Order"].count() == (1, 0)
    kept.retry_stores.use_table(None, True)
    for _ in range(3):
        kept.progress._rehearse_from = float("inf")
        kept.turn()
    assert kept.tried == [1]
    assert kept.retry_stores["Order"].count() == (1, 0)


def test_what_was_sent_while_database_left_is_not_sent_again(turns: Turns) -> None:
    turns.execute("""INSERT INTO "order" VALUES (1, 'good'), (2, 'good')""")
    with turns.engine.connect() as connection:
        version = connection.scalar(sa.text('SELECT xmin::text FROM "order" WHERE id = 1'))
    turns.progress.interrupted(BurstError("away", proved=[Proved((1,), version)]))
    turns.turn()
    turns.turn()
    assert left(turns) == []
    assert turns.tried == [2]


def test_sent_rows_that_are_locked_keep_no_others_waiting(turns: Turns) -> None:
    turns.execute("""INSERT INTO "order" SELECT n, 'good' FROM generate_series(1, 12) n""")
    with turns.engine.connect() as connection:
        version = connection.scalar(sa.text('SELECT DISTINCT xmin::text FROM "order"'))
    turns.progress.interrupted(BurstError("away", proved=[Proved((key,), version) for key in range(1, 11)]))
    turns.retry_stores._limits = turns.worker._limits = BurstLimits(lock_timeout_seconds=0.1)
    with turns.engine.begin() as other:
        other.execute(sa.text('SELECT FROM "order" WHERE id <= 10 FOR UPDATE'))
        turns.turns_until(lambda: turns.tried == [11, 12])
    turns.turn()
    turns.turn()
    assert left(turns) == []
    assert turns.tried == [11, 12]


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


def test_board_shows_what_was_sent_and_what_worker_did_last(turns: Turns) -> None:
    turns.execute("""INSERT INTO "order" VALUES (1, 'good')""")
    turns.turn()
    assert turns.status.models()[0].sent == 1
    [worker] = turns.status.workers()
    assert (worker.doing, worker.model, worker.signals) == ("sending", "Order", 1)


def test_signals_are_out_of_reach_when_bursts_get_none_and_the_first_one_stays(turns: Turns) -> None:
    turns.execute("INSERT INTO \"order\" (note) VALUES ('one'), ('two')")
    bursts = EmptyBursts(turns.clock)
    recorder = turns.recorder
    unreached = Unreached({"Order": turns.progress}, turns.retry_stores, bursts, recorder.incidents, recorder.runtime)

    def stuck_after(seconds: float) -> list[str]:
        turns.clock.now += seconds
        unreached.polled(["Order"])
        found: list[str] = turns.health.readiness()["stuck_models"]
        return found

    bursts.burst_ended("Order", BurstResult(selected=0), BurstDecision(more=False))
    assert stuck_after(UNREACHED_AFTER_SECONDS - DIAGNOSE_EVERY_SECONDS) == []
    turns.execute('DELETE FROM "order" WHERE id = 1')
    assert stuck_after(DIAGNOSE_EVERY_SECONDS) == [], "another relay sends what is there"
    assert stuck_after(DIAGNOSE_EVERY_SECONDS) == ["Order"]
    assert "Order: 1 signal is pending that no burst gets" in str(turns.health.readiness()["reasons"])
    bursts.burst_ended("Order", BurstResult(selected=1), BurstDecision(more=False))
    assert stuck_after(0.0) == []


#: Two keys that Python reads as one, and one that it reads as it is.
LOSSY, LIKE_IT = "0.1234567890123456789", "0.1234567890123456788"


@pytest.fixture
def lossy(database_url: str) -> Iterator[Turns]:
    turns = Turns(database_url, key=sa.Numeric(asdecimal=False))
    turns.execute('CREATE TABLE child (order_id numeric REFERENCES "order" (id))')
    yield turns
    turns.engine.dispose()


@pytest.mark.parametrize("grant", [None, "SELECT"])
@pytest.mark.parametrize("note", ["bad", "dead", "kept"])
def test_without_table_a_key_that_is_read_lossily_is_tried_once(lossy: Turns, grant: str | None, note: str) -> None:
    lossy.execute("INSERT INTO \"order\" VALUES (-1, 'first')")
    lossy.retry_stores.use_table(None, False)
    if grant is None:
        lossy.execute("DROP TABLE signalbus_parked")
    lossy.turn()
    lossy.execute(f"INSERT INTO \"order\" VALUES ({LOSSY}, '{note}'), ({LIKE_IT}, '{note}'), (7, 'good')")
    if note == "kept":
        lossy.execute(f"INSERT INTO child VALUES ({LOSSY}), ({LIKE_IT})")
    for _ in range(6):
        lossy.turns_until(lambda: True)
        lossy.retry_stores["Order"].clean_up()
    # What is known to be kept is not even sent.
    assert Counter(lossy.tried + lossy.raised) == {-1: 1, 7: 1, float(LOSSY): 1 if note == "kept" else 2}
    assert lossy.retry_stores["Order"].count() == (0, 2)
    lossy.execute("DELETE FROM child", 'DELETE FROM "order"')
    lossy.retry_stores["Order"].clean_up()
    assert lossy.retry_stores["Order"].count() == (0, 0)


def test_a_suspect_whose_key_is_read_lossily_holds_up_no_other(lossy: Turns) -> None:
    lossy.execute(f"INSERT INTO \"order\" VALUES ({LOSSY}, 'away'), (7, 'good')")
    lossy.turns_until(lambda: lossy.tried == [7])


@pytest.mark.parametrize("key", [sa.Integer, sa.Numeric(asdecimal=False)])
def test_what_was_sent_is_not_sent_again_when_table_is_dropped(database_url: str, key: Any) -> None:
    turns = Turns(database_url, key=key)
    turns.execute("""INSERT INTO "order" VALUES (1, 'rehearsed')""")
    turns.turns_until(lambda: turns.tried == [1])
    turns.execute(
        'CREATE TABLE child AS SELECT id FROM "order"',
        'ALTER TABLE child ADD FOREIGN KEY (id) REFERENCES "order"',
        """INSERT INTO "order" VALUES (7, 'kept')""",
        "INSERT INTO child VALUES (7)",
    )
    turns.turns_until(lambda: turns.tried == [1, 7])
    assert turns.retry_stores["Order"].count()[0] == 1
    turns.execute("DROP TABLE signalbus_parked")
    turns.retry_stores.use_table(None, False)
    for _ in range(5):
        turns.turn()
    assert turns.tried == [1, 7]
    turns.execute("DROP TABLE child")
    turns.turns_until(lambda: turns.retry_stores["Order"].has_due())
    turns.progress.mark_retry_due()
    turns.turn()
    with turns.engine.connect() as connection:
        assert connection.scalar(sa.text('SELECT count(*) FROM "order"')) == 0
    turns.engine.dispose()


def test_a_burst_that_loses_its_database_asks_for_a_poll(turns: Turns) -> None:
    servers, asked = turns.recorder.runtime.servers, []
    servers.on_suspicion(lambda: asked.append(servers.problem(None)))
    turns.execute("INSERT INTO \"order\" (note) VALUES ('good')")
    turns.execute(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN OLD; END$$",
        'CREATE TRIGGER lose BEFORE DELETE ON "order" FOR EACH ROW EXECUTE FUNCTION lose()',
    )
    turns.turn()
    assert len(asked) == 1
    assert asked[0] is not None


@pytest.mark.parametrize("event", ["do_orm_execute", "after_begin"])
def test_a_listener_that_raises_is_told_of_with_its_model(
    turns: Turns, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    turns.execute("""INSERT INTO "order" VALUES (1, 'good')""")

    def refuse(*_: Any) -> None:
        raise RuntimeError("no tenant")

    with turns.app.app_context():
        sa.event.listen(turns.db.session, event, refuse)
    turns.turn()
    told = {vars(record).get("action"): record.getMessage() for record in caplog.records}
    assert told["model_failing"] == "Order: RuntimeError: no tenant"
