"""Who keeps dead rows alive, against a real PostgreSQL: sessions, prepared transactions, standbys and their slots."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from signalbus_core import HolderKind, HorizonHolder, horizon_holders
from tests.support.postgres import PrivatePostgres
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


def test_nobody_holds_the_horizon_of_an_idle_database_and_who_asks_does_not_count(url: str) -> None:
    with session(url) as idle:
        idle.execute("SELECT 1")
        idle.connection.commit()
        assert holders(url) == []


def test_a_held_snapshot_is_told_by_its_session_and_never_by_its_query(url: str) -> None:
    with session(url) as snapshot:
        hold_a_snapshot(snapshot)
        [holder] = holders(url)
        assert (holder.kind, holder.pid) == (HolderKind.SESSION, pid_of(snapshot))
        assert (holder.name, holder.state, holder.is_visible) == ("report", "idle in transaction", True)
        assert holder.age_seconds is not None
        assert 0 <= holder.age_seconds < 60
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


def test_a_standby_is_told_while_it_runs_and_its_slot_after_it_is_gone(url: str, server: PrivatePostgres) -> None:
    def told(kind: HolderKind) -> HorizonHolder | None:
        return next((holder for holder in holders(url) if holder.kind is kind), None)

    with PrivateStandby(server) as standby:
        standby.start()
        holder = eventually(lambda: told(HolderKind.STANDBY), 30)
        assert (holder.name, holder.age_seconds) == ("walreceiver", None)
        assert "hot_standby_feedback" in str(holder)
    with PrivateStandby(server, slot="reports") as standby:
        standby.start()
        holder = eventually(lambda: told(HolderKind.SLOT), 30)
        assert (holder.name, holder.pid is not None) == ("reports", True)
    holder = eventually(lambda: told(HolderKind.SLOT), 30)
    assert str(holder) == "replication slot 'reports' (used by nobody)"
    assert told(HolderKind.STANDBY) is None
    server.execute("SELECT pg_drop_replication_slot('reports')")
    assert told(HolderKind.SLOT) is None


def test_there_is_nothing_to_tell_of_another_database_system() -> None:
    with sa.create_engine("sqlite://").connect() as connection:
        assert horizon_holders(connection) == []
