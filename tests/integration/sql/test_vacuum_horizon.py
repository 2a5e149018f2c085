"""Who keeps dead rows alive, against a real PostgreSQL: sessions, prepared transactions, standbys and their slots."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from relay.checks import vacuum
from relay.poller.database import PolledDatabase
from relay.poller.diagnosis.vacuum_horizon import (
    ACTIVE_SECONDS,
    DEAD_ROWS_THAT_HURT,
    HELD_FOR_SECONDS,
    IDLE_SECONDS,
    Horizon,
)
from signalbus_core.lowlevel import HolderKind, HorizonHolder, count_dead_rows, horizon_holders
from tests.integration.poller.test_poller import Watched
from tests.support.checked import Checked
from tests.support.postgres import PrivatePostgres
from tests.support.recorder import Recorder
from tests.support.standby import PrivateStandby
from tests.support.waiting import eventually

LOGIN = "somebody"


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    with PrivatePostgres(settings=["max_prepared_transactions=5"]) as server:
        server.start()
        server.execute(f"CREATE ROLE {LOGIN} LOGIN")
        yield server


@pytest.fixture
def url(server: PrivatePostgres) -> str:
    return server.create_database()


@contextlib.contextmanager
def session(url: str, application_name: str = "report") -> Iterator[Any]:
    plain = url.replace("+psycopg2", "")
    connection = psycopg2.connect(plain, connect_timeout=10, application_name=application_name)
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


def holders(url: str) -> list[HorizonHolder]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = horizon_holders(connection)
    engine.dispose()
    return found


def pid_of(cursor: Any) -> int:
    return int(cursor.connection.get_backend_pid())


def hold_a_snapshot(cursor: Any) -> None:
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    cursor.execute("SELECT 'card 4111'")


def test_nobody_holds_horizon_of_idle_database(url: str) -> None:
    with session(url) as idle:
        idle.execute("SELECT 1")
        idle.connection.commit()
        assert holders(url) == []


def test_held_snapshot_is_told_by_session_and_never_by_query(url: str) -> None:
    with session(url) as snapshot:
        hold_a_snapshot(snapshot)
        [holder] = holders(url)
        assert (holder.kind, holder.pid) == (HolderKind.SESSION, pid_of(snapshot))
        assert (holder.name, holder.state, holder.is_visible) == ("report", "idle in transaction", True)
        assert holder.age_seconds is not None
        assert holder.still_seconds is not None
        assert 0 <= holder.still_seconds <= holder.age_seconds < 60
        assert f"session with pid {holder.pid} (application 'report', idle in transaction, for " in str(holder)
        assert "4111" not in f"{holder!r} {holder.remedy}"


def test_a_transaction_that_has_written_holds_the_horizon_and_so_does_one_that_reads_meanwhile(url: str) -> None:
    with session(url, "first") as first, session(url, "second") as second:
        first.execute("SELECT pg_current_xact_id()")
        second.execute("CREATE TABLE signal (id int)")
        second.connection.commit()
        hold_a_snapshot(second)
        assert [holder.name for holder in holders(url)] == ["first", "second"]
        [oldest, _] = holders(url)
        assert oldest.horizon == oldest_transaction(url, pid_of(first))


def oldest_transaction(url: str, pid: int) -> str:
    with session(url) as cursor:
        cursor.execute(f"SELECT backend_xid::text FROM pg_stat_activity WHERE pid = {pid}")
        return str(cursor.fetchone()[0])


def test_a_snapshot_in_another_database_holds_nothing_here(url: str, server: PrivatePostgres) -> None:
    with session(server.create_database()) as elsewhere:
        hold_a_snapshot(elsewhere)
        assert holders(url) == []


def test_of_another_logins_session_it_is_told_that_it_is_there(url: str) -> None:
    with session(url) as snapshot:
        hold_a_snapshot(snapshot)
        [holder] = holders(url.replace("postgres@", f"{LOGIN}@"))
        assert (holder.pid, holder.is_visible) == (pid_of(snapshot), False)
        assert (holder.state, holder.age_seconds) == (None, None)
        assert holder.transactions >= 0
        assert str(holder) == f"another login's session with pid {holder.pid} (application 'report')"


def test_a_prepared_transaction_is_told_by_its_name(url: str) -> None:
    with session(url) as cursor:
        cursor.execute("CREATE TABLE signal (id int)")
        cursor.execute("PREPARE TRANSACTION 'order 7'")
        [holder] = holders(url)
        assert (holder.kind, holder.pid, holder.name) == (HolderKind.PREPARED, None, "order 7")
        assert str(holder).startswith("prepared transaction 'order 7' (for ")
        cursor.connection.commit()
        cursor.connection.autocommit = True
        cursor.execute("ROLLBACK PREPARED 'order 7'")
        assert holders(url) == []


def test_a_standby_is_told_while_it_runs(url: str, server: PrivatePostgres) -> None:
    with PrivateStandby(server) as standby:
        standby.start()
        [holder] = eventually(lambda: holders(url), 30)
        assert (holder.kind, holder.name, holder.age_seconds) == (HolderKind.STANDBY, "walreceiver", None)
        assert str(holder) == f"standby 'walreceiver' by hot_standby_feedback (pid {holder.pid})"
    eventually(lambda: not holders(url), 30)


def test_there_is_nothing_to_tell_of_another_database_system() -> None:
    with sa.create_engine("sqlite://").connect() as connection:
        assert horizon_holders(connection) == []


# What the relay tells


@pytest.fixture
def watched(url: str, caplog: pytest.LogCaptureFixture) -> Iterator[Watched]:
    caplog.set_level(logging.INFO, "signalbus.relay")
    watched = Watched(url, models=2)
    for name in ("m00", "m01"):
        watched.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = false)")
    yield watched
    watched.engine.dispose()


def let_rows_die(watched: Watched, number: int, all_together: int | None = None) -> None:
    # In a session of its own, because the statistics are told when it ends.
    with session(watched.engine.url.render_as_string(hide_password=False)) as cursor:
        cursor.execute(f"INSERT INTO m00 SELECT n, '' FROM generate_series(1, {number}) n")
        cursor.execute("DELETE FROM m00")
        cursor.connection.commit()
    specs = [progress.spec for progress in watched.progress.values()]

    def are_known() -> bool:
        with watched.engine.connect() as connection:
            return count_dead_rows(connection, specs)[0] == (all_together or number)

    eventually(are_known, 20)


def look(watched: Watched, seconds: float) -> None:
    watched.clock.now += seconds
    watched.poller.run_once()


def held_seconds(watched: Watched) -> float:
    found = re.search(r"^signalbus_horizon_held_seconds (\S+)$", watched.metrics.render().decode(), re.MULTILINE)
    assert found
    return float(found[1])


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.__dict__["action"].startswith("horizon")]


@contextlib.contextmanager
def held_snapshot(url: str, _server: PrivatePostgres) -> Iterator[str]:
    with session(url) as cursor:
        hold_a_snapshot(cursor)
        yield f"session with pid {pid_of(cursor)} (application 'report', idle in transaction, for "


@contextlib.contextmanager
def prepared_transaction(url: str, _server: PrivatePostgres) -> Iterator[str]:
    with session(url) as cursor:
        cursor.execute("CREATE TABLE other (id int)")
        cursor.execute("PREPARE TRANSACTION 'forgotten'")
        cursor.connection.commit()
        yield "prepared transaction 'forgotten' (for "
        cursor.connection.autocommit = True
        cursor.execute("ROLLBACK PREPARED 'forgotten'")


@contextlib.contextmanager
def forgotten_slot(url: str, server: PrivatePostgres) -> Iterator[str]:
    with PrivateStandby(server, slot="forgotten") as standby:
        standby.start()
        [holder] = eventually(lambda: holders(url), 30)
        assert str(holder) == f"replication slot 'forgotten' (used by pid {holder.pid})"
    eventually(lambda: "used by nobody" in str(holders(url)[0]), 30)
    yield "replication slot 'forgotten' (used by nobody)"
    server.execute("SELECT pg_drop_replication_slot('forgotten')")


@pytest.mark.parametrize("holding", [held_snapshot, prepared_transaction, forgotten_slot])
def test_who_keeps_many_dead_rows_alive_is_told_once_and_end_too(
    watched: Watched, url: str, server: PrivatePostgres, caplog: pytest.LogCaptureFixture, holding: Any
) -> None:
    with holding(url, server) as holder:
        let_rows_die(watched, DEAD_ROWS_THAT_HURT)
        watched.execute("INSERT INTO m00 VALUES (-1, '')")
        look(watched, 0)
        look(watched, max(ACTIVE_SECONDS, HELD_FOR_SECONDS))
        [warning] = told(caplog)
        assert (warning.levelname, warning.__dict__["action"]) == ("WARNING", "horizon_held")
        assert f"Dead rows of M00 ({DEAD_ROWS_THAT_HURT}) cannot be removed" in warning.message
        assert holder in warning.message
        assert held_seconds(watched) >= HELD_FOR_SECONDS
        assert watched.gauge("signalbus_dead_rows", "M00") == DEAD_ROWS_THAT_HURT
        assert watched.gauge("signalbus_dead_rows", "M01") == 0
        look(watched, ACTIVE_SECONDS)
        assert len(told(caplog)) == 1
    look(watched, ACTIVE_SECONDS)
    assert [record.__dict__["action"] for record in told(caplog)] == ["horizon_held", "horizon_free"]
    assert held_seconds(watched) == 0


def test_a_check_tells_who_keeps_many_dead_rows_alive_as_soon_as_a_relay_does(
    watched: Watched, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "HELD_FOR_SECONDS", 0.0)
    specs = [progress.spec for progress in watched.progress.values()]

    def found() -> list[str]:
        with watched.engine.connect() as connection:
            return [one.problem for one in vacuum.check_bloat(connection, specs) if one.code == "horizon-held"]

    with session(url) as snapshot:
        hold_a_snapshot(snapshot)
        let_rows_die(watched, DEAD_ROWS_THAT_HURT - 1)
        assert found() == []
        let_rows_die(watched, 2, DEAD_ROWS_THAT_HURT + 1)
        [problem] = found()
        assert problem.endswith(f"dead rows stay ({DEAD_ROWS_THAT_HURT + 1:,} of M00)")
    assert found() == []


def test_another_holder_is_told_at_once_and_the_same_one_once_a_minute(
    watched: Watched, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with session(url, "second") as second:
        with session(url, "first") as first:
            hold_a_snapshot(first)
            watched.execute("INSERT INTO m01 VALUES (1, '')", "DELETE FROM m01")
            hold_a_snapshot(second)
            let_rows_die(watched, DEAD_ROWS_THAT_HURT)
            for _ in range(3):
                look(watched, IDLE_SECONDS)
        look(watched, IDLE_SECONDS)
    assert [record.__dict__["holder_name"] for record in told(caplog)] == ["first", "first", "second"]


def test_few_dead_rows_hurt_nobody_and_nobody_is_asked_for(watched: Watched, url: str) -> None:
    with session(url) as snapshot:
        hold_a_snapshot(snapshot)
        let_rows_die(watched, DEAD_ROWS_THAT_HURT - 1)
        watched.statements.clear()
        for _ in range(3):
            look(watched, IDLE_SECONDS)
    assert not any("pg_stat_activity" in statement for statement in watched.statements)
    assert watched.gauge("signalbus_dead_rows", "M00") == DEAD_ROWS_THAT_HURT - 1
    assert held_seconds(watched) == 0


def test_it_is_asked_once_a_minute_while_idle_and_often_while_signals_flow(watched: Watched) -> None:
    def asked(seconds: int) -> int:
        watched.statements.clear()
        for _ in range(seconds):
            look(watched, 1)
        return sum("pg_stat_get_dead_tuples" in statement for statement in watched.statements)

    assert asked(120) == 120 / IDLE_SECONDS
    watched.execute("INSERT INTO m00 VALUES (1, '')")
    assert asked(30) == 30 / ACTIVE_SECONDS


def test_without_rights_the_session_of_another_login_is_told_and_what_may_not_be_read_ends_nothing(
    watched: Watched, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = sa.create_engine(url.replace("postgres@", f"{LOGIN}@"))
    recorder = Recorder(watched.names, watched.clock)
    status = recorder.status
    horizon = Horizon(PolledDatabase(None, engine, [one.spec for one in watched.progress.values()]), recorder.runtime)
    with session(url) as snapshot:
        hold_a_snapshot(snapshot)
        let_rows_die(watched, DEAD_ROWS_THAT_HURT)
        for _ in range(2):
            watched.clock.now += IDLE_SECONDS
            horizon.run_once(is_active=False)
        [warning] = told(caplog)
        holder = f"another login's session with pid {pid_of(snapshot)} (application 'report')"
        assert holder in warning.message
        assert (status.horizons()[None].models, status.horizons()[None].holder) == (("M00",), holder)
        watched.execute("REVOKE SELECT ON pg_prepared_xacts FROM PUBLIC")
        caplog.set_level(logging.DEBUG, "signalbus.relay")
        watched.clock.now += IDLE_SECONDS
        horizon.run_once(is_active=False)
        assert told(caplog)[-1].__dict__["action"] == "horizon_unknown"
    engine.dispose()


def test_two_phase_commit_and_doorbells_exclude_each_other(url: str) -> None:
    checked = Checked(url, "amqp://127.0.0.1:1/").create()
    assert checked.codes("doorbell") == {"doorbell-two-phase"}
    checked.order.signalbus_doorbell = False
    assert checked.codes("doorbell") == {"area-fine"}
