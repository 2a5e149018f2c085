"""The poller: one statement for all models, and what it makes of the answers."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.poller.backlog_meter import COSTS_AT_MOST_ONE_IN, MEASURE_EVERY_SECONDS
from relay.poller.database import PolledDatabase
from relay.poller.joint_query import MOST_SLOW, POLL_LIMITS
from relay.poller.maintenance import TIDY_EVERY_SECONDS, TableError
from relay.poller.pauses import PausedModels
from relay.poller.poller import Poller
from relay.scheduler import Scheduler
from relay.telemetry.incidents import single_signals
from relay.worker.low_water import LowWater
from relay.worker.model_state import LONGEST_SUSPICION_SECONDS, ModelState
from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import RetryStores
from signalbus_core import Outcome, OutcomeKind, SignalBusMixin
from signalbus_core.lowlevel import (
    FIRST_KEY,
    BurstLimits,
    BurstResult,
    FailedSignal,
    Measurement,
    has_integer_key,
)
from signalbus_core.sql import templates
from tests.support.clock import Clock
from tests.support.recorder import Recorder
from tests.support.servers import Postgres
from tests.support.waiting import eventually


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Watched:
    """An application with many signal models, and a poller that looks at them."""

    def __init__(self, database_url: str, models: int, limits: BurstLimits = POLL_LIMITS) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = Database(self.app)
        # SQLAlchemy itself holds models by weak references only.
        self.models: list[type] = []
        for number in range(models):
            members = {
                "__tablename__": f"m{number:02}",
                "id": db.Column(sa.Integer, primary_key=True),
                "second": db.Column(sa.Text, primary_key=number % 2 == 1, default=""),
                "send_signalbus_message": lambda self: None,
            }
            if number == 8:
                members["created_at"] = db.Column(sa.DateTime(timezone=True))
            self.models.append(type(f"M{number:02}", (db.Model,), members))
        self.clock = Clock(1000.0)
        self.statements: list[str] = []
        with self.app.app_context():
            self._create_tables(models)
            specs = db.signalbus.specs()
            self.engine = db.engine
        self.names = [spec.name for spec in specs]
        self.progress = {
            spec.name: ModelState(spec, low_water=LowWater(is_kept=has_integer_key(spec))) for spec in specs
        }
        self.recorder = Recorder(self.names, self.clock, "test.probe")
        self.metrics, self.health = self.recorder.metrics, self.recorder.health
        self.scheduler = Scheduler(self.names, clock=self.clock)
        rules = RetryPolicy(uniform=lambda _low, high: high)
        self.retry_stores = RetryStores(specs, {None: self.engine}, rules, BurstLimits(), self.clock)
        self.paused = PausedModels(self.scheduler, self.recorder.runtime)
        self.poller = Poller(
            PolledDatabase(None, self.engine, specs),
            self.progress,
            self.retry_stores,
            self.paused,
            self.scheduler,
            self.recorder.runtime,
            limits=limits,
        )
        sa.event.listen(self.engine, "before_cursor_execute", self._note)

    def _create_tables(self, models: int) -> None:
        if models <= 300:
            self.db.create_all()
            return
        own = [self.db.metadata.tables[name] for name in ("signalbus_parked", "signalbus_paused")]
        self.db.metadata.create_all(self.db.engine, tables=own)
        key = "id int NOT NULL, second text NOT NULL DEFAULT ''''"
        creating = (
            f"EXECUTE format('CREATE TABLE m%s ({key}, created_at timestamptz, PRIMARY KEY (id%s))',"
            " lpad(n::text, greatest(2, length(n::text)), '0'), CASE n % 2 WHEN 1 THEN ', second' ELSE '' END);"
        )
        with self.db.engine.connect() as connection:
            # A transaction can lock so many tables only.
            for first in range(0, models, 100):
                loop = f"FOR n IN {first} .. {min(models, first + 100) - 1} LOOP {creating} END LOOP;"
                connection.exec_driver_sql(f"DO $$ BEGIN {loop} END $$".replace("%", "%%"))
                connection.commit()

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement)

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))
        self.statements.clear()

    def gauge(self, name: str, signal: str) -> float:
        found = re.search(rf'^{name}{{signal="{signal}"}} (\S+)$', self.metrics.render().decode(), re.MULTILINE)
        assert found
        return float(found[1])


@pytest.fixture
def watched(database_url: str) -> Iterator[Watched]:
    watched = Watched(database_url, models=9)
    yield watched
    watched.engine.dispose()


def test_one_statement_looks_at_all_models(database_url: str) -> None:
    watched = Watched(database_url, models=50)
    watched.poller.run_once()
    watched.statements.clear()
    watched.poller.run_once()
    [look] = watched.statements
    assert all(f"FROM m{number:02}" in look for number in range(50))
    watched.engine.dispose()


def test_the_models_with_signals_are_handed_to_workers(watched: Watched) -> None:
    assert not watched.poller.run_once()
    watched.execute("INSERT INTO m03 VALUES (1, 'a')", "INSERT INTO m07 VALUES (1, 'a')")
    assert watched.poller.run_once()
    assert [watched.scheduler.take(0) for _ in range(3)] == ["M03", "M07", None]


REFUSED = Outcome(OutcomeKind.REFUSED, "no route")


@pytest.mark.parametrize("has_table", [True, False])
def test_signals_that_wait_for_another_try_do_not_count_until_it_has_come(watched: Watched, has_table: bool) -> None:
    if not has_table:
        watched.execute("DROP TABLE signalbus_parked")
    watched.poller.run_once()
    watched.execute("INSERT INTO m01 VALUES (1, 'a')", "INSERT INTO m02 VALUES (1, 'a')")
    for name, key in (("M01", (1, "a")), ("M02", (1,))):
        watched.retry_stores[name].put([FailedSignal(key, REFUSED)])
    if has_table:
        # The database's clock counts, which goes on.
        watched.execute("UPDATE signalbus_parked SET next_try_at = now() + interval '1 hour'")
    assert not watched.poller.run_once()
    assert watched.poller.count_failed() == 2

    watched.clock.now += 3600
    if has_table:
        watched.execute("UPDATE signalbus_parked SET next_try_at = now()")
    assert watched.poller.run_once()
    assert watched.scheduler.take(0) == "M01"
    assert watched.progress["M01"].plan(0.0).retry
    assert not watched.progress["M03"].plan(0.0).retry


def test_without_the_parked_table_it_is_said_once_what_to_do(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.execute("ALTER TABLE signalbus_parked RENAME TO elsewhere")
    for _ in range(3):
        watched.poller.run_once()
        watched.clock.now += TIDY_EVERY_SECONDS
    assert [record.action for record in caplog.records] == ["parked_table_missing"]
    assert "signalbus-relay ddl parked" in caplog.text
    caplog.set_level(logging.INFO)
    watched.execute("ALTER TABLE elsewhere RENAME TO signalbus_parked")
    watched.poller.run_once()
    assert caplog.records[-1].action == "parked_table_found"


def test_a_parked_table_of_an_earlier_version_is_told_once(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.execute("ALTER TABLE signalbus_parked DROP row_version")
    for _ in range(3):
        watched.poller.run_once()
        watched.clock.now += TIDY_EVERY_SECONDS
    assert [record.action for record in caplog.records] == ["parked_table_old"]
    assert "signalbus-relay ddl parked" in caplog.text


def test_a_parked_table_that_goes_away_is_done_without(watched: Watched) -> None:
    watched.poller.run_once()
    watched.execute("DROP TABLE signalbus_parked", "INSERT INTO m03 VALUES (1, 'a')")
    watched.poller.run_once()
    assert watched.poller.run_once()
    assert watched.poller.database_is_up
    assert watched.scheduler.take(0) == "M03"


def test_signals_that_are_set_aside_are_shown_by_model(watched: Watched) -> None:
    watched.poller.run_once()
    watched.execute("INSERT INTO m03 SELECT n, 'a' FROM generate_series(1, 3) n")
    watched.retry_stores["M03"].put([FailedSignal((n, "a"), REFUSED) for n in (1, 2, 3)])
    watched.execute("UPDATE signalbus_parked SET next_try_at = NULL WHERE key LIKE '%3%'")
    watched.clock.now += MEASURE_EVERY_SECONDS
    watched.poller.run_once()
    assert watched.gauge("signalbus_waiting_signals", "M03") == 2
    assert watched.gauge("signalbus_parked_signals", "M03") == 1
    assert watched.gauge("signalbus_parked_signals", "M04") == 0


def test_what_is_set_aside_counts_as_soon_as_its_table_is_found(watched: Watched) -> None:
    watched.execute("ALTER TABLE signalbus_parked RENAME TO elsewhere", "INSERT INTO m02 VALUES (1, 'a')")
    watched.execute("INSERT INTO m03 VALUES (1, 'a')")
    assert watched.poller.run_once()
    watched.execute(
        "ALTER TABLE elsewhere RENAME TO signalbus_parked",
        "INSERT INTO signalbus_parked (table_name, key, model, attempts, first_failed_at, last_failed_at, error_class,"
        " error_text) VALUES ('m02', '1', 'M02', 9, now(), now(), '', '')",
    )
    watched.clock.now += TIDY_EVERY_SECONDS
    # Found by one look at the latest, and heeded by the next, also when that measures beside a backlog.
    watched.poller.run_once()
    watched.clock.now += MEASURE_EVERY_SECONDS
    assert watched.poller.run_once()
    assert watched.gauge("signalbus_parked_signals", "M02") == 1
    watched.execute("DELETE FROM m03")
    assert not watched.poller.run_once(), "what is parked is no work"


def test_last_signal_parked_is_no_flow_sent_or_discarded_is(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    def look() -> list[str]:
        watched.clock.now += MEASURE_EVERY_SECONDS
        watched.poller.run_once()
        return [record.action for record in caplog.records if record.action == "signals_flow_again"]

    caplog.set_level(logging.INFO)
    watched.poller.run_once()
    watched.execute("INSERT INTO m03 SELECT n, 'a' FROM generate_series(1, 2) n")
    watched.recorder.incidents.raised(single_signals("M03"), "signals_set_aside", "1 cannot be sent")
    watched.retry_stores["M03"].put([FailedSignal((1, "a"), REFUSED)])
    assert look() == []
    watched.execute("UPDATE signalbus_parked SET next_try_at = NULL")
    assert look() == []
    progress = watched.progress["M03"]
    progress.mark_retry_due()
    progress.finished(progress.plan(0.0), BurstResult(selected=1, sent=1), now=0.0)
    assert look() == ["signals_flow_again"]

    watched.recorder.incidents.raised(single_signals("M03"), "signals_set_aside", "1 cannot be sent")
    progress.finished(progress.plan(0.0), BurstResult(1, failed=(FailedSignal((2, "a"), REFUSED),)), now=0.0)
    assert look() == ["signals_flow_again"]
    watched.execute("DELETE FROM signalbus_parked")
    assert look() == ["signals_flow_again"] * 2


def test_trouble_of_model_ends_when_another_relay_empties_it(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched.execute("INSERT INTO m03 VALUES (1, 'a')")
    watched.recorder.incidents.raised("M03", "model_failing", "no answer")
    watched.poller.run_once()
    assert "model_recovered" not in [record.action for record in caplog.records]
    watched.execute("DELETE FROM m03")
    watched.poller.run_once()
    assert [record.action for record in caplog.records][-1] == "model_recovered"


def test_a_suspect_is_work_when_its_time_has_come_and_is_not_forgotten_until_then(watched: Watched) -> None:
    watched.poller.run_once()
    watched.execute("INSERT INTO m02 VALUES (1, 'a')")
    progress = watched.progress["M02"]
    no_answer = FailedSignal((1,), Outcome(OutcomeKind.UNKNOWN, "no answer"))
    progress.finished(progress.plan(0.0), BurstResult(selected=1, failed=(no_answer,)), now=watched.clock.now)
    assert not watched.poller.run_once()
    assert watched.poller.has_suspects()
    watched.clock.now += LONGEST_SUSPICION_SECONDS
    assert watched.poller.run_once()
    assert watched.scheduler.take(0) == "M02"
    assert progress.plan(watched.clock.now).suspect == (1,)


def test_a_dropped_table_does_not_hide_the_other_models(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.poller.run_once()
    watched.execute("DROP TABLE m05", "INSERT INTO m06 VALUES (1, 'a')")
    watched.clock.now += MEASURE_EVERY_SECONDS
    assert watched.poller.run_once()
    assert watched.scheduler.take(0) == "M06"
    assert watched.poller.database_is_up
    assert "m05" in caplog.text


def test_dropped_table_with_signals_set_aside_is_no_outage(watched: Watched) -> None:
    watched.poller.run_once()
    watched.execute("INSERT INTO m03 VALUES (1, 'a')")
    watched.retry_stores["M03"].put([FailedSignal((1, "a"), REFUSED)])
    watched.execute("UPDATE signalbus_parked SET next_try_at = now() + interval '1 hour'")
    watched.clock.now += MEASURE_EVERY_SECONDS
    watched.poller.run_once()
    watched.execute("DROP TABLE m03", "INSERT INTO m06 VALUES (1, 'a')")
    watched.clock.now += TIDY_EVERY_SECONDS
    assert watched.poller.run_once()
    assert watched.poller.database_is_up
    assert watched.scheduler.take(0) == "M06"


@pytest.mark.parametrize("name", ["M00", "M01"], ids=["one column", "two columns"])
def test_note_with_a_foreign_key_hides_nothing_and_is_forgotten(
    watched: Watched, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    note = f"('{name.lower()}', '3f2a', '{name}', 9, now(), now(), NULL, 'error', '')"
    watched.execute(f"INSERT INTO signalbus_parked VALUES {note}")
    watched.poller.run_once()
    watched.execute("INSERT INTO m02 VALUES (1, 'a')")
    watched.clock.now += TIDY_EVERY_SECONDS
    watched.poller.run_once()
    assert watched.poller.database_is_up
    assert watched.scheduler.take(0) == "M02"
    assert not caplog.records
    assert watched.poller.count_failed() == 0


def test_a_locked_table_of_a_model_with_notes_hides_no_other_and_is_no_outage(watched: Watched) -> None:
    watched.poller.run_once()
    watched.execute("INSERT INTO m03 VALUES (1, 'a')", "INSERT INTO m06 VALUES (1, 'a')")
    watched.retry_stores["M03"].put([FailedSignal((1, "a"), REFUSED)])
    watched.execute("UPDATE signalbus_parked SET next_try_at = now() + interval '1 hour'")
    watched.clock.now += MEASURE_EVERY_SECONDS
    watched.poller.run_once()
    watched.clock.now += TIDY_EVERY_SECONDS
    with watched.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE m03 IN ACCESS EXCLUSIVE MODE"))
        assert watched.poller.run_once()
    assert watched.poller.database_is_up
    assert watched.scheduler.take(0) == "M06"


def test_locked_table_hides_no_other_model_and_is_no_outage(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.poller.run_once()
    watched.execute("INSERT INTO m06 VALUES (1, 'a')")
    with watched.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE m05 IN ACCESS EXCLUSIVE MODE"))
        assert watched.poller.run_once()
    assert watched.scheduler.take(0) == "M06"
    assert watched.poller.database_is_up
    assert "m05" in caplog.text.lower()


def test_a_locked_table_is_unknown_and_told_with_the_pid_of_its_holder(watched: Watched) -> None:
    watched.poller.run_once()
    assert watched.gauge("signalbus_backlog_signals", "M05") == 0
    health = watched.recorder.health
    with watched.engine.begin() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        connection.execute(sa.text("LOCK TABLE m05 IN ACCESS EXCLUSIVE MODE"))
        watched.poller.run_once()
        [reason] = health.readiness()["reasons"][-1:]
        assert f"its table is locked by the session with pid {pid}" in reason
        assert f"pg_terminate_backend({pid})" in reason
        assert math.isnan(watched.gauge("signalbus_backlog_signals", "M05"))
        assert watched.gauge("signalbus_backlog_signals", "M06") == 0
    watched.clock.now += MEASURE_EVERY_SECONDS
    watched.poller.run_once()
    assert health.readiness()["stuck_models"] == []
    assert watched.gauge("signalbus_backlog_signals", "M05") == 0


def test_a_table_locked_at_start_is_polled_once_its_key_was_checked(watched: Watched) -> None:
    with watched.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE m05 IN ACCESS EXCLUSIVE MODE"))
        connection.execute(sa.text("INSERT INTO m05 VALUES (1, 'a')"))
        watched.poller.run_once()
        assert not watched.poller.covered_everything
    assert watched.poller.run_once()
    assert watched.poller.covered_everything


def test_tables_that_cannot_serve_are_all_named(watched: Watched) -> None:
    watched.execute("DROP TABLE m05", "ALTER TABLE m06 DROP CONSTRAINT m06_pkey")
    with pytest.raises(TableError) as raised:
        watched.poller.run_once()
    assert "m05" in str(raised.value)
    assert "m06" in str(raised.value)


def test_backlog_and_lag_are_measured_on_a_clock_of_their_own(watched: Watched) -> None:
    watched.execute("INSERT INTO m00 SELECT n, 'a' FROM generate_series(1, 30) n")
    watched.poller.run_once()
    assert watched.gauge("signalbus_backlog_signals", "M00") == 30
    assert watched.gauge("signalbus_lag_seconds", "M00") == 0
    watched.execute("DELETE FROM m00 WHERE id > 10")
    watched.poller.run_once()
    assert watched.gauge("signalbus_backlog_signals", "M00") == 30
    watched.clock.now += MEASURE_EVERY_SECONDS
    watched.poller.run_once()
    assert watched.gauge("signalbus_backlog_signals", "M00") == 10
    assert watched.gauge("signalbus_lag_seconds", "M00") == MEASURE_EVERY_SECONDS


def test_the_lag_begins_anew_when_the_oldest_signal_was_sent(watched: Watched) -> None:
    watched.execute("INSERT INTO m00 VALUES (1, 'a'), (2, 'a')")
    watched.poller.run_once()
    watched.execute("DELETE FROM m00 WHERE id = 1")
    watched.clock.now += MEASURE_EVERY_SECONDS
    watched.poller.run_once()
    assert watched.gauge("signalbus_lag_seconds", "M00") == 0


@pytest.mark.parametrize(
    ("written_at", "lowest", "highest"),
    [("now() - interval '1 hour'", 3600, 3700), ("now() + interval '1 hour'", 0, 0), ("NULL", 0, 0)],
)
def test_the_lag_is_the_age_of_the_signal_with_the_lowest_key_by_the_clock_of_the_database(
    watched: Watched, written_at: str, lowest: float, highest: float
) -> None:
    watched.execute(
        f"INSERT INTO m08 (id, second, created_at) VALUES (1, '', {written_at}), (2, '', now() - interval '1 day')"
    )
    watched.poller.run_once()
    assert lowest <= watched.gauge("signalbus_lag_seconds", "M08") <= highest


def test_a_signal_without_time_of_writing_is_as_old_as_it_was_seen_as_the_oldest(watched: Watched) -> None:
    watched.execute("INSERT INTO m08 (id, second) VALUES (1, '')")
    watched.poller.run_once()
    watched.clock.now += MEASURE_EVERY_SECONDS
    watched.poller.run_once()
    assert watched.gauge("signalbus_lag_seconds", "M08") == MEASURE_EVERY_SECONDS


def test_parked_signals_do_not_lag(watched: Watched) -> None:
    watched.execute(
        "INSERT INTO m08 (id, second, created_at) VALUES (1, '', now() - interval '1 day'), (2, '', now())",
        "INSERT INTO signalbus_parked (table_name, key, model, attempts, first_failed_at, last_failed_at, error_class, "
        "error_text) VALUES ('m08', '1', 'M08', 3, now(), now(), 'invalid', '')",
    )
    watched.poller.run_once()
    assert watched.gauge("signalbus_parked_signals", "M08") == 1
    assert watched.gauge("signalbus_lag_seconds", "M08") < 3600


def test_counting_a_backlog_stops_at_a_limit(watched: Watched) -> None:
    watched.execute("INSERT INTO m00 SELECT n, 'a' FROM generate_series(1, 12000) n")
    watched.poller.run_once()
    assert watched.gauge("signalbus_backlog_signals", "M00") == 10_000


def test_a_database_that_does_not_answer_is_told_with_the_reason(watched: Watched) -> None:
    watched.poller.run_once()
    assert watched.health.readiness()["database"]["condition"] == "up"
    watched.engine.dispose()
    broken = sa.create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    watched.poller._engine = broken
    assert watched.poller.run_once(), "as long as a database cannot be asked, there may be something to send"
    database = watched.health.readiness()["database"]
    assert database["condition"] == "down"
    assert "refused" in database["reason"]


def test_reason_of_a_database_error_is_one_line_without_values(watched: Watched) -> None:
    watched.poller.run_once()
    watched.execute(
        "CREATE FUNCTION away() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
        "'no more' USING ERRCODE = '53100', DETAIL = 'card 4111'; END $$"
    )
    watched.execute("ALTER TABLE m00 RENAME TO old", "CREATE VIEW m00 AS SELECT xmin, * FROM old WHERE away()")
    watched.execute("INSERT INTO old VALUES (1, '')")
    watched.poller.run_once()
    database = watched.health.readiness()["database"]
    assert "no more" in database["reason"]
    assert "4111" not in database["reason"]


def test_signals_flow_while_a_look_finds_nothing_to_send(watched: Watched) -> None:
    watched.health.relay_changed("running")
    watched.health.broker_changed("worker-1", "unused")
    watched.clock.now += 61
    assert not watched.poller.run_once()
    assert watched.health.readiness()["ready"]
    watched.execute("INSERT INTO m03 VALUES (1, 'a')")
    watched.clock.now += 61
    assert watched.poller.run_once()
    assert watched.health.readiness()["reasons"] == ["signals are pending, and none was sent for 61 s"]


# Many models


@pytest.fixture(scope="module")
def crowd(postgres: Postgres) -> Iterator[Watched]:
    crowd = Watched(postgres.create_database(), models=210)
    yield crowd
    crowd.engine.dispose()


def test_hundreds_of_models_are_looked_at_and_measured(crowd: Watched) -> None:
    assert not crowd.poller.run_once()
    crowd.execute("INSERT INTO m03 VALUES (1, 'a')", "INSERT INTO m209 SELECT n, 'a' FROM generate_series(1, 3) n")
    # Together, and, since there is work, one after the other.
    for _ in range(2):
        crowd.clock.now += MEASURE_EVERY_SECONDS
        assert crowd.poller.run_once()
        assert crowd.poller.database_is_up
        assert crowd.poller.covered_everything
    assert {crowd.scheduler.take(0), crowd.scheduler.take(0)} == {"M03", "M209"}
    assert crowd.gauge("signalbus_backlog_signals", "M209") == 3
    assert len(crowd.statements) <= 20


def test_a_thousand_models_are_polled_within_seconds(database_url: str) -> None:
    many = Watched(database_url, models=1000)
    many.execute("INSERT INTO m03 VALUES (1, 'a')", "INSERT INTO m999 VALUES (1, 'a')")
    built: list[Any] = []
    sa.event.listen(many.engine, "before_execute", lambda _connection, one, *_: built.append(one))
    for _ in range(2):
        many.clock.now += MEASURE_EVERY_SECONDS
        assert many.poller.run_once()
        assert many.poller.covered_everything
    assert many.poller.found == ["M03", "M999"]
    # SQLAlchemy builds none of the statements about models.
    assert not any(isinstance(one, (sa.Select, sa.CompoundSelect)) for one in built)
    assert len(many.statements) < 250
    many.engine.dispose()


def test_the_statements_about_hundreds_of_models_are_made_once(crowd: Watched) -> None:
    def look() -> None:
        for _ in range(4):
            crowd.clock.now += 2
            crowd.poller.run_once()

    look()
    made = set(templates._templates)
    look()
    assert set(templates._templates) == made


def test_table_gone_has_neighbours_alone_asked_one_by_one(crowd: Watched) -> None:
    crowd.execute("ALTER TABLE m07 RENAME TO elsewhere")
    try:
        crowd.poller.run_once()
        assert not crowd.poller.covered_everything
        assert len(crowd.statements) < 250
    finally:
        crowd.execute("ALTER TABLE elsewhere RENAME TO m07")
    crowd.poller.run_once()
    assert crowd.poller.covered_everything


# Scans that take too long


class Slow:
    """Has the scans of some models take longer than a look may, as they do where dead rows gather."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.tables: set[str] = set()
        #: How often such a scan was begun.
        self.begun = 0
        sa.event.listen(watched.engine, "before_cursor_execute", self._slow, retval=True)

    def _slow(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        starts = re.findall(r">= CAST\((-?\d+) AS BIGINT\)", statement)
        from_start = not starts or str(FIRST_KEY) in starts
        if (
            from_start
            and "AS model" in statement
            and any(re.search(rf"FROM {table}\b", statement) for table in self.tables)
        ):
            self.begun += 1
            self.watched.clock.now += 10
            *settings, statement = statement.split("; ")
            return "; ".join([*settings, "SELECT pg_sleep(60)", statement]), parameters
        return statement, parameters


@pytest.fixture
def slow(database_url: str) -> Iterator[Slow]:
    watched = Watched(database_url, 10, BurstLimits(statement_timeout_seconds=1.0))
    watched.poller.run_once()
    yield Slow(watched)
    watched.engine.dispose()


def test_a_table_that_takes_too_long_holds_up_no_other_model(slow: Slow, caplog: pytest.LogCaptureFixture) -> None:
    watched = slow.watched
    watched.execute("INSERT INTO m04 VALUES (1, 'a')", "INSERT INTO m06 VALUES (1, 'a')")
    slow.tables = {"m06"}
    assert watched.poller.run_once()
    assert watched.poller.database_is_up
    assert not watched.poller.covered_everything
    # What is in the slow one is not known; a worker has the time to look.
    assert {watched.scheduler.take(0) for _ in range(3)} == {"M04", "M06", None}
    [told] = [record for record in caplog.records if record.action == "model_failing"]
    assert (told.signal, "'m06'" in told.message, "dead rows" in told.message) == ("M06", True, True)


def test_a_scan_that_took_too_long_is_not_due_again_at_once(slow: Slow) -> None:
    watched = slow.watched
    slow.tables = {"m06"}
    watched.poller.run_once()
    begun, since = slow.begun, watched.clock.now
    while watched.clock.now < since + 80:
        watched.poller.run_once()
        assert not watched.poller.covered_everything
        watched.clock.now += 5
    assert slow.begun == begun
    watched.clock.now += 20
    watched.poller.run_once()
    assert slow.begun > begun


def test_a_signal_written_into_a_slow_table_is_handed_on_before_the_next_scan(slow: Slow) -> None:
    watched = slow.watched
    slow.tables = {"m06"}
    for _ in range(2):
        watched.poller.run_once()
        assert [watched.scheduler.take(0), watched.scheduler.take(0)] == ["M06", None]
        watched.scheduler.give_back("M06", more=False)
    assert not watched.poller.run_once()
    begun = slow.begun
    # A session that ends reports its statistics.
    engine = sa.create_engine(watched.engine.url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO m06 VALUES (1, 'a')"))
    eventually(watched.poller.run_once)
    assert (watched.scheduler.take(0), slow.begun) == ("M06", begun)
    assert any("'m06' takes too long" in reason for reason in watched.health.readiness()["reasons"])


def test_where_worker_found_lowest_key_probe_looks_from_there_on(slow: Slow) -> None:
    watched = slow.watched
    watched.execute("INSERT INTO m06 VALUES (50, 'a')")
    slow.tables = {"m06"}
    watched.poller.run_once()
    assert [watched.scheduler.take(0), watched.scheduler.take(0)] == ["M06", None]
    for progress in watched.progress.values():
        scan = progress.low_water.begin(watched.clock.now, thorough=True)
        progress.low_water.record_scan(scan, 50 if progress.low_water.is_kept else None, 20.0)
    watched.scheduler.give_back("M06", more=False)
    begun = slow.begun
    assert watched.poller.run_once()
    assert watched.poller.covered_everything
    assert (slow.begun, watched.scheduler.take(0)) == (begun, "M06")


def test_many_slow_tables_do_not_hold_up_one_poll_for_all(slow: Slow) -> None:
    watched = slow.watched
    slow.tables = {f"m{number:02}" for number in (0, 1, 2, 3, 4, 5)}
    watched.poller.run_once()
    assert slow.begun == 1 + MOST_SLOW
    watched.execute("INSERT INTO m09 VALUES (1, 'a')")
    for _ in range(3):
        watched.clock.now += 1
        watched.poller.run_once()
    assert watched.poller.database_is_up
    names = {watched.scheduler.take(0) for _ in range(8)}
    assert "M09" in names


def test_where_no_table_answers_in_time_models_are_told_of(slow: Slow) -> None:
    watched = slow.watched
    slow.tables = {f"m{number:02}" for number in range(10)}
    for _ in range(4):
        watched.poller.run_once()
        watched.clock.now += 1
    assert watched.poller.database_is_up
    assert not watched.poller.covered_everything
    lasting = watched.recorder.incidents.lasting().values()
    assert {told.signal for told in lasting if "takes too long" in told.reason} >= {f"M{n:02}" for n in range(9)}


CANCELLED = "DO $$ BEGIN RAISE EXCEPTION 'it takes too long' USING ERRCODE = '57014'; END $$"


def cancelled(connection: sa.Connection, *_args: object) -> None:
    connection.exec_driver_sql(CANCELLED)


@pytest.mark.parametrize("end", ["they are read", "no signal waits"])
def test_reasons_that_cannot_be_read_are_told_until_that_ends(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    def lasting() -> list[str]:
        watched.clock.now += MEASURE_EVERY_SECONDS
        watched.poller.run_once()
        assert watched.health.stuck("M03") is None, "its scans are in time"
        assert watched.health.database == "up"
        return [f"{one.thing}: {one.reason}" for one in watched.recorder.incidents.lasting().values()]

    watched.poller.run_once()
    watched.execute("INSERT INTO m03 VALUES (1, 'a')")
    watched.retry_stores["M03"].put([FailedSignal((1, "a"), REFUSED)])
    monkeypatch.setattr("relay.poller.diagnosis.failures.read_failure", cancelled)
    [told] = lasting()
    assert told.startswith("M03, why its signals fail: ")
    assert "it takes too long" in told
    if end == "they are read":
        monkeypatch.undo()
    else:
        watched.execute("DELETE FROM signalbus_parked")
    assert lasting() == []


def test_notes_that_cannot_be_cleaned_up_are_told_until_none_is_left(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> bool:
        watched.clock.now += TIDY_EVERY_SECONDS
        watched.poller.run_once()
        return "M03, what is noted of its signals" in watched.recorder.incidents.lasting()

    watched.poller.run_once()
    watched.execute("INSERT INTO m03 VALUES (1, 'a')")
    watched.retry_stores["M03"].put([FailedSignal((1, "a"), REFUSED)])
    with watched.engine.connect() as connection:
        monkeypatch.setattr(watched.retry_stores["M03"], "clean_up", lambda: cancelled(connection))
        assert told()
    watched.execute("DELETE FROM signalbus_parked")
    assert not told()


BLOCKED = [("M03", Measurement(3, None, parked=1, blocked=1))]


def test_blocked_keys_that_cannot_be_named_are_no_outage(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.poller.run_once()
    monkeypatch.setattr("relay.poller.diagnosis.blocked_keys.blocked_keys", cancelled)
    watched.poller._report(BLOCKED)
    assert list(watched.recorder.incidents.lasting()) == ["M03, the names of its blocked keys"]
    watched.poller._report([("M03", Measurement(3, None))])
    assert watched.recorder.incidents.lasting() == {}


def test_naming_blocked_keys_is_a_part_of_measuring(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def takes_long(*_args: object) -> list[object]:
        watched.clock.now += 5
        return []

    monkeypatch.setattr("relay.poller.diagnosis.blocked_keys.blocked_keys", takes_long)
    watched.poller.run_once()
    watched.clock.now += MEASURE_EVERY_SECONDS
    assert watched.poller._meter.begin()
    watched.poller._report([("M03", Measurement(3, None, blocked=1))])
    watched.clock.now += 5 * (COSTS_AT_MOST_ONE_IN - 1) - 1
    assert not watched.poller._meter.begin()
    watched.clock.now += 1
    assert watched.poller._meter.begin()
