"""Relays know of each other by their rows in ``signalbus_relays``, and send whatever becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url

from relay.application.load import LoadedApp
from relay.replicas.build import _place, application_of
from relay.replicas.replica import MOST_BYTES, MOST_NAMED, SILENT_AFTER_SECONDS, NotFlowing, OwnReport, Report
from relay.replicas.thread import AGAIN_SECONDS, EVERY_SECONDS, Place, Replicas
from relay.servers.reconnect import Servers
from relay.telemetry.states import BACKLOG_COUNTED_TO
from relay.telemetry.status import Status
from relay.web.status_report import StatusReport
from signalbus_core import relays_table_sql
from signalbus_core.lowlevel import RELAYS
from tests.support.clock import Clock
from tests.support.outbox_app import OutboxApp
from tests.support.recorder import ENDED, Recorder, burst
from tests.support.servers import Postgres
from tests.support.waiting import eventually

MODELS = [f"Model{number:02}" for number in range(40)]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(relays_table_sql())
    yield engine
    engine.dispose()


class Relay:
    """What a relay knows, and its place among the others."""

    def __init__(self, engine: Engine, sent: int = 0, application: str = "shop") -> None:
        self.clock = Clock()
        self.recorder = Recorder(MODELS, self.clock)
        self.status: Status = self.recorder.status
        self.recorder.events.relay_changed("running")
        self.recorder.events.broker_changed("worker-1", "up", None, "amqp://rabbit/")
        self.recorder.health.set_database("up")
        self.status.worker_changed("worker-1", "idle")
        for model in MODELS:
            self.status.backlog_measured(model, 0, 0.0)
        if sent:
            self.status.burst_ended(MODELS[0], burst(sent), ENDED)
        self.clock.now += 5
        self.own = OwnReport(self.status, self.recorder.health, self.recorder.incidents)
        self.away: str | None = None
        place = Place(engine, RELAYS.table(sa.MetaData()), application, lambda: self.away)
        self.replicas = Replicas(self.own, place, self.clock)

    def report(self) -> dict[str, Any]:
        boards = (self.status, self.recorder.health, self.recorder.incidents)
        return StatusReport(*boards, replicas=self.replicas).as_object()


def execute(engine: Engine, statement: str) -> Any:
    with engine.begin() as connection:
        result = connection.exec_driver_sql(statement)
        return result.all() if result.returns_rows else None


def test_each_relay_shows_the_others_and_the_sum(engine: Engine) -> None:
    relays = [Relay(engine, sent=150), Relay(engine, sent=300)]
    for one in (*relays, *relays):
        assert one.replicas.run_once() == EVERY_SECONDS
    for one in relays:
        report = one.report()
        assert [replica["is_this"] for replica in report["replicas"]] == [True, False]
        assert {replica["sent"] for replica in report["replicas"]} == {150, 300}
        assert report["all_replicas"] == {"number": 2, "workers": 2, "per_second": 30.0, "problem": None}


def test_a_relay_that_ends_removes_its_row(engine: Engine) -> None:
    relay = Relay(engine)
    relay.replicas.start()
    eventually(lambda: execute(engine, "SELECT id FROM signalbus_relays") == [(relay.own.id,)])
    relay.replicas.close()
    assert execute(engine, "SELECT id FROM signalbus_relays") == []


def test_a_relay_that_says_nothing_is_silent_then_forgotten(engine: Engine) -> None:
    here, gone = Relay(engine), Relay(engine)
    gone.replicas.run_once()
    execute(engine, f"UPDATE signalbus_relays SET seen_at = now() - interval '{SILENT_AFTER_SECONDS + 5} seconds'")
    here.replicas.run_once()
    [_, other] = here.report()["replicas"]
    assert other["is_silent"]
    assert other["silent_seconds"] > SILENT_AFTER_SECONDS
    assert here.report()["all_replicas"]["number"] == 1
    execute(engine, f"UPDATE signalbus_relays SET seen_at = now() - interval '11 minutes' WHERE id = '{gone.own.id}'")
    here.replicas.run_once()
    assert execute(engine, "SELECT id FROM signalbus_relays") == [(here.own.id,)]
    assert len(here.report()["replicas"]) == 1
    # It was only stopped for long.
    gone.replicas.run_once()
    here.replicas.run_once()
    assert here.report()["all_replicas"]["number"] == 2


def test_relays_of_another_application_are_not_shown(engine: Engine) -> None:
    here, there = Relay(engine), Relay(engine, application="stock")
    for one in (here, there, here):
        one.replicas.run_once()
    assert execute(engine, "SELECT count(*) FROM signalbus_relays") == [(2,)]
    for one in (here, there):
        assert [replica["id"] for replica in one.report()["replicas"]] == [one.own.id]


def test_relays_of_one_application_share_the_database_of_its_first_model(database_url: str) -> None:
    outbox = OutboxApp(database_url, SQLALCHEMY_BINDS={"far": database_url})
    outbox.model("Order")
    outbox.model("Stock", __bind_key__="far")
    servers = Servers()
    place = _place(LoadedApp(outbox.app, outbox.db.signalbus), servers)
    assert place is not None
    servers.failed("far", "refused")
    assert place.database_problem() is None
    servers.failed(None, "refused")
    assert place.database_problem() == "refused"
    order, stock = (outbox.spec(model) for model in outbox.models.values())
    assert place.application == application_of([stock, order])
    assert place.application != application_of([order])
    outbox.close()


def test_another_database_that_is_away_keeps_no_relay_from_the_others(engine: Engine) -> None:
    here, other = Relay(engine), Relay(engine)
    here.recorder.health.set_database("down", "refused")
    other.replicas.run_once()
    here.replicas.run_once()
    assert here.report()["all_replicas"]["number"] == 2


def test_others_become_no_older_while_they_cannot_be_read(engine: Engine) -> None:
    here, other = Relay(engine), Relay(engine)
    other.replicas.run_once()
    here.replicas.run_once()
    here.away = "refused"
    here.clock.now += SILENT_AFTER_SECONDS + 1
    here.replicas.run_once()
    report = here.report()
    assert report["all_replicas"]["problem"] == "the database is away"
    assert [one["is_silent"] for one in report["replicas"]] == [False, False]
    here.away = None
    here.clock.now += SILENT_AFTER_SECONDS + 1
    other.replicas.run_once()
    here.replicas.run_once()
    assert here.report()["all_replicas"] == {"number": 2, "workers": 2, "per_second": 0.0, "problem": None}


def test_without_the_table_the_page_shows_this_relay_and_the_reason(engine: Engine) -> None:
    relay = Relay(engine)
    execute(engine, "DROP TABLE signalbus_relays")
    assert relay.replicas.run_once() == AGAIN_SECONDS
    report = relay.report()
    assert [one["is_this"] for one in report["replicas"]] == [True]
    assert report["all_replicas"]["problem"] == "the table signalbus_relays does not exist"
    execute(engine, relays_table_sql())
    assert relay.replicas.run_once() == EVERY_SECONDS
    assert relay.report()["all_replicas"]["problem"] is None


def test_without_a_privilege_the_page_shows_this_relay_and_the_reason(engine: Engine, postgres: Postgres) -> None:
    role = f"relay_{make_url(str(engine.url)).database}"
    execute(engine, f'CREATE ROLE "{role}" LOGIN; GRANT SELECT ON signalbus_relays TO "{role}"')
    login = sa.create_engine(engine.url.set(username=role))
    relay = Relay(login)
    assert relay.replicas.run_once() == AGAIN_SECONDS
    assert "is closed to this login, which lacks INSERT, UPDATE, DELETE" in relay.report()["all_replicas"]["problem"]
    login.dispose()
    execute(engine, f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def test_a_locked_table_is_a_reason_and_no_failure(engine: Engine) -> None:
    relay = Relay(engine)
    relay.replicas.run_once()
    with engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE signalbus_relays")
        assert relay.replicas.run_once() == EVERY_SECONDS
        assert "lock timeout" in relay.report()["all_replicas"]["problem"]
    relay.replicas.run_once()
    assert relay.report()["all_replicas"]["problem"] is None


def test_statement_that_keeps_failing_is_tried_once_a_minute(engine: Engine) -> None:
    relay = Relay(engine)
    relay.replicas.run_once()
    execute(engine, "ALTER TABLE signalbus_relays ADD CONSTRAINT closed CHECK (false) NOT VALID")
    assert [relay.replicas.run_once() for _ in range(3)] == [EVERY_SECONDS, AGAIN_SECONDS, AGAIN_SECONDS]
    assert "closed" in relay.report()["all_replicas"]["problem"]
    execute(engine, "ALTER TABLE signalbus_relays DROP CONSTRAINT closed")
    assert relay.replicas.run_once() == EVERY_SECONDS
    assert relay.report()["all_replicas"]["problem"] is None


def test_one_statement_each_time_that_changes_no_index(engine: Engine) -> None:
    relays = [Relay(engine), Relay(engine)]
    for relay in relays:
        relay.replicas.run_once()
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    for _ in range(8):
        for relay in relays:
            relay.replicas.run_once()
    assert len(statements) == 16
    # The statistics of a session are there when it has ended.
    engine.dispose()
    updates = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'signalbus_relays'"
    eventually(lambda: execute(engine, updates) == [(16, 16)])


#: The size of what the table stores elsewhere, because its rows are too large.
OUT_OF_LINE = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'signalbus_relays'::regclass"


def refuse_everything(relay: Relay) -> None:
    for model in MODELS:
        relay.recorder.incidents.raised(
            f"Signals of {model}", "model_failing", "é" * 200 + " amqp://shop:s3cret@rabbit/", signal=model
        )


def test_a_row_names_what_does_not_flow_within_its_size_and_without_passwords(engine: Engine) -> None:
    relay = Relay(engine)
    relay.recorder.incidents.raised("Order", "model_failing", "refused by amqp://shop:s3cret@rabbit/", signal=MODELS[3])
    relay.replicas.run_once()
    [[text]] = execute(engine, "SELECT report FROM signalbus_relays")
    assert "s3cret" not in text
    [one] = Report.from_text(text).not_flowing
    assert (one.model, one.state) == (MODELS[3], "failing")
    refuse_everything(relay)
    relay.replicas.run_once()
    [[text]] = execute(engine, "SELECT report FROM signalbus_relays")
    report = Report.from_text(text)
    assert len(text.encode()) <= MOST_BYTES
    assert execute(engine, OUT_OF_LINE) == [(0,)]
    assert len(report.not_flowing) + report.more_not_flowing == len(MODELS)


def test_a_report_is_made_quickly_however_many_models_do_not_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def dumps(report: dict[str, Any]) -> str:
        tries.append(len(report["not_flowing"]))
        return json.dumps(report)

    monkeypatch.setattr("relay.replicas.replica.json", SimpleNamespace(dumps=dumps))
    stopped = tuple(NotFlowing(f"Model{number}", "blocked", "x" * 160) for number in range(2000))
    text = Report("running", True, 2, "down", "up", 0.0, 0, stopped).as_text()
    monkeypatch.undo()
    assert tries[0] == MOST_NAMED
    report = Report.from_text(text)
    assert len(report.not_flowing) + report.more_not_flowing == len(stopped)


def test_a_model_that_is_behind_flows(engine: Engine) -> None:
    relay = Relay(engine)
    relay.status.backlog_measured(MODELS[0], BACKLOG_COUNTED_TO, 0.0)
    assert relay.report()["models"][0]["state"] == "behind"
    assert relay.own.now().report.not_flowing == ()


BAD_REPORTS: list[Callable[[str], str]] = [
    lambda _good: "",
    lambda _good: "[]",
    lambda _good: '{"state": "running"}',
    lambda good: good.replace('"workers": 1', '"workers": 1e999'),
    lambda good: good.replace('"not_flowing": []', '"not_flowing": [null]'),
]


@pytest.mark.parametrize("change", BAD_REPORTS)
def test_a_row_that_is_no_report_is_passed_over(engine: Engine, change: Callable[[str], str]) -> None:
    here, other = Relay(engine), Relay(engine)
    other.replicas.run_once()
    [[good]] = execute(engine, "SELECT report FROM signalbus_relays")
    assert change(good) != good
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE signalbus_relays SET report = :bad"), {"bad": change(good)})
    here.replicas.run_once()
    assert len(here.report()["replicas"]) == 1
    assert here.report()["all_replicas"]["problem"] is None


def test_without_a_place_nothing_is_told_and_nothing_is_read() -> None:
    recorder = Recorder(MODELS)
    alone = Replicas(OwnReport(recorder.status, recorder.health, recorder.incidents))
    alone.start()
    [shown] = alone.shown()
    alone.close()
    assert shown.is_this
    assert alone.problem == "other relays are not looked for"
