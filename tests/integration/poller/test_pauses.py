"""Paused models: their table, and what the poller makes of it, against a real PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from relay.application.databases import Databases
from relay.application.load import LoadedApp
from relay.exit_codes import CommandError
from relay.operations.pauses import Pauses
from relay.poller.backlog_meter import MEASURE_EVERY_SECONDS
from relay.poller.maintenance import TIDY_EVERY_SECONDS
from signalbus_core import Outcome, OutcomeKind, paused_table_sql
from signalbus_core.lowlevel import BurstResult, FailedSignal, paused_table_of, paused_table_problem
from signalbus_core.schema.own_tables import paused_table
from tests.integration.poller.test_poller import Watched


@pytest.fixture
def watched(database_url: str) -> Iterator[Watched]:
    watched = Watched(database_url, models=3)
    yield watched
    watched.engine.dispose()


@pytest.fixture
def pauses(watched: Watched) -> Pauses:
    return Pauses(Databases(LoadedApp(watched.app, watched.db.signalbus)))


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.action for record in caplog.records]


# The table


def test_pausing_twice_changes_nothing_and_first_reason_stands(pauses: Pauses) -> None:
    assert pauses.pause("M01", "moving the queue")
    assert not pauses.pause("M01", "another reason")
    assert [(one.model, one.reason) for one in pauses.list()] == [("M01", "moving the queue")]
    assert pauses.resume("M01")
    assert not pauses.resume("M01")
    assert pauses.list() == []


def test_a_reason_that_the_database_cannot_hold_is_kept_as_far_as_it_can(pauses: Pauses) -> None:
    assert pauses.pause("M01", "a\0b \ud800" + "x" * 2000)
    [shown] = pauses.list()
    assert shown.reason is not None
    assert shown.reason.startswith("a b \\ud800xxx")
    assert len(shown.reason) == 1000


def test_a_pause_of_another_application_is_none_of_ours(watched: Watched, pauses: Pauses) -> None:
    watched.execute("INSERT INTO signalbus_paused VALUES ('elsewhere', 'M01', now(), NULL)")
    assert pauses.list() == []
    assert not watched.poller.run_once()
    assert "M01" not in watched.paused


def test_the_printed_sql_creates_the_table(watched: Watched) -> None:
    watched.execute("DROP TABLE signalbus_paused")
    table = paused_table_of(watched.db.signalbus.specs()[0])
    with watched.engine.begin() as connection:
        assert paused_table_problem(connection, table) == "does not exist"
        connection.exec_driver_sql(paused_table_sql())
        assert paused_table_problem(connection, table, for_change=True) is None
        columns = {column["name"]: column["nullable"] for column in sa.inspect(connection).get_columns(table.name)}
    assert columns == {"table_name": False, "model": False, "paused_at": False, "reason": True}


def test_without_table_pausing_tells_what_to_do(watched: Watched, pauses: Pauses) -> None:
    watched.execute("DROP TABLE signalbus_paused")
    for act in (lambda: pauses.pause("M01", None), lambda: pauses.resume("M01")):
        with pytest.raises(CommandError, match="signalbus-relay ddl paused"):
            act()
    assert pauses.list() == []


def test_a_model_that_does_not_exist_is_not_paused(pauses: Pauses) -> None:
    with pytest.raises(CommandError, match="Known are: M00, M01, M02"):
        pauses.pause("M99", None)


def test_the_table_may_have_another_name() -> None:
    metadata = sa.MetaData(schema="outbox", info={"signalbus_paused": "resting"})
    assert paused_table(metadata).fullname == "outbox.resting"
    assert paused_table(metadata) is metadata.tables["outbox.resting"]


# The poller


def test_a_paused_model_is_handed_to_nobody_until_it_is_resumed(
    watched: Watched, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched.execute("INSERT INTO m01 VALUES (1, 'a')", "INSERT INTO m02 VALUES (1, 'a')")
    pauses.pause("M01", "moving the queue")
    for _ in range(2):
        assert watched.poller.run_once()
        assert [watched.scheduler.take(0) for _ in range(2)] == ["M02", None]
        watched.scheduler.give_back("M02", more=False)
        assert watched.poller.held == ["M01"]
    assert actions(caplog) == ["model_paused"]
    assert "M01: paused (moving the queue)" in caplog.text
    assert (watched.gauge("signalbus_paused", "M01"), watched.gauge("signalbus_paused", "M02")) == (1, 0)

    pauses.resume("M01")
    assert watched.poller.run_once()
    assert watched.scheduler.take(0) == "M01"
    assert watched.poller.held == []
    assert watched.gauge("signalbus_paused", "M01") == 0
    assert actions(caplog) == ["model_paused", "model_resumed"]


def test_pauses_are_seen_by_the_one_statement_of_a_look(watched: Watched, pauses: Pauses) -> None:
    pauses.pause("M01", None)
    watched.poller.run_once()
    watched.statements.clear()
    watched.poller.run_once()
    [look] = watched.statements
    assert look.count("FROM signalbus_paused") == 3


def test_a_paused_model_alone_leaves_the_relay_nothing_to_do(watched: Watched, pauses: Pauses) -> None:
    watched.execute("INSERT INTO m01 VALUES (1, 'a')")
    pauses.pause("M01", None)
    assert not watched.poller.run_once()
    assert watched.scheduler.is_idle()
    assert watched.poller.held == ["M01"]


def test_backlog_and_lag_of_a_paused_model_are_measured(watched: Watched, pauses: Pauses) -> None:
    pauses.pause("M01", None)
    watched.execute("INSERT INTO m01 SELECT n, 'a' FROM generate_series(1, 3) n")
    for _ in range(3):
        watched.clock.now += MEASURE_EVERY_SECONDS
        watched.poller.run_once()
    assert watched.gauge("signalbus_backlog_signals", "M01") == 3
    assert watched.gauge("signalbus_lag_seconds", "M01") == 2 * MEASURE_EVERY_SECONDS


@pytest.mark.parametrize("has_table", [True, False])
def test_signals_waiting_for_another_try_wait_while_paused(watched: Watched, pauses: Pauses, has_table: bool) -> None:
    if not has_table:
        watched.execute("DROP TABLE signalbus_parked")
    watched.poller.run_once()
    watched.execute("INSERT INTO m01 VALUES (1, 'a')")
    refused = Outcome(OutcomeKind.REFUSED, "no route")
    watched.retry_stores["M01"].put([FailedSignal((1, "a"), refused)])
    pauses.pause("M01", None)
    watched.clock.now += 3600
    if has_table:
        watched.execute("UPDATE signalbus_parked SET next_try_at = now()")
    assert not watched.poller.run_once()
    assert watched.poller.held == ["M01"]
    assert not watched.progress["M01"].plan(0.0).retry

    pauses.resume("M01")
    assert watched.poller.run_once()
    assert watched.progress["M01"].plan(0.0).retry


def test_a_suspect_of_a_paused_model_counts_as_left(watched: Watched, pauses: Pauses) -> None:
    watched.execute("INSERT INTO m02 VALUES (1, 'a')")
    progress = watched.progress["M02"]
    silent = FailedSignal((1,), Outcome(OutcomeKind.UNKNOWN, "no answer"))
    progress.finished(progress.plan(0.0), BurstResult(selected=1, failed=(silent,)), now=watched.clock.now)
    pauses.pause("M02", None)
    assert not watched.poller.run_once()
    assert not watched.poller.has_suspects()
    assert watched.poller.held == ["M02"]


# When the table is away


def test_relay_without_table_says_once_that_none_is_paused(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watched.execute("DROP TABLE signalbus_paused", "INSERT INTO m01 VALUES (1, 'a')")
    for _ in range(3):
        assert watched.poller.run_once()
        watched.clock.now += TIDY_EVERY_SECONDS
    assert [(record.action, record.levelname) for record in caplog.records] == [("paused_table_missing", "INFO")]
    assert watched.scheduler.take(0) == "M01"
    with watched.engine.begin() as connection:
        connection.exec_driver_sql(paused_table_sql())
    watched.poller.run_once()
    assert actions(caplog)[-1] == "paused_table_found"


def test_table_that_is_gone_pauses_nothing_and_that_is_warned_of(
    watched: Watched, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched.execute("INSERT INTO m01 VALUES (1, 'a')")
    pauses.pause("M01", None)
    watched.poller.run_once()
    watched.execute("DROP TABLE signalbus_paused")
    watched.poller.run_once()
    assert watched.poller.run_once()
    assert watched.scheduler.take(0) == "M01"
    assert watched.poller.database_is_up
    missing = [record.levelname for record in caplog.records if record.action == "paused_table_missing"]
    assert missing == ["WARNING"]
    assert "model_resumed" in actions(caplog)


def test_what_was_seen_last_holds_while_table_is_closed_to_login(
    watched: Watched, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    admin = sa.create_engine(watched.engine.url)
    role = f"reader_{watched.engine.url.database}"

    def as_admin(*statements: str) -> None:
        with admin.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    as_admin(
        f"CREATE ROLE {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT INSERT, UPDATE, DELETE ON signalbus_parked TO {role}",
        "INSERT INTO m01 VALUES (1, 'a')",
        "INSERT INTO m02 VALUES (1, 'a')",
    )
    pauses.pause("M01", None)
    watched.engine.dispose()

    @sa.event.listens_for(watched.engine, "connect")
    def become(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {role}")
        connection.commit()

    watched.poller.run_once()
    as_admin(f"REVOKE SELECT ON signalbus_paused FROM {role}")
    watched.poller.run_once()
    assert watched.poller.run_once()
    assert [watched.scheduler.take(0) for _ in range(2)] == ["M02", None]
    assert "is closed to this login, which lacks SELECT. What was last seen paused stays so." in caplog.text
    watched.engine.dispose()
    as_admin(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    admin.dispose()
