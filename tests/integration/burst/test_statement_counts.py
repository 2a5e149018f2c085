"""How many statements a relay sends, as its server counts them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from relay.poller.interval import PollInterval
from signalbus_core.lowlevel import BurstLimits, autocommit
from signalbus_core.sql import templates
from tests.integration.poller.test_poller import Watched
from tests.integration.worker.test_worker import Turns
from tests.support.postgres import PrivatePostgres
from tests.support.statement_log import SETTINGS, StatementLog


@pytest.fixture(scope="module")
def logging_postgres() -> Iterator[PrivatePostgres]:
    with PrivatePostgres(settings=SETTINGS) as server:
        yield server.start()


@pytest.fixture
def url(logging_postgres: PrivatePostgres) -> str:
    return logging_postgres.create_database() + "?application_name=counted"


@pytest.fixture
def log(logging_postgres: PrivatePostgres, url: str) -> StatementLog:
    return StatementLog(logging_postgres, "counted")


@pytest.fixture
def watched(url: str) -> Iterator[Watched]:
    watched = Watched(url, models=50)
    yield watched
    watched.engine.dispose()


def test_an_idle_relay_sends_no_more_than_one_statement_a_second_for_fifty_models(
    watched: Watched, log: StatementLog
) -> None:
    poll = PollInterval(1.0, uniform=lambda low, high: (low + high) / 2)
    watched.poller.run_once()
    watched.poller.run_once()
    log.new()
    begun = watched.clock.now
    for _ in range(60):
        watched.clock.now += poll.next_seconds(active=False)
        watched.poller.run_once()
    sent = log.new()
    assert 60 <= len(sent) <= watched.clock.now - begun
    assert sum("count(*)" in statement for statement in sent) >= 10, "the backlog was measured as well"


def test_an_idle_look_is_one_transaction_of_the_server(watched: Watched, log: StatementLog) -> None:
    watched.poller.run_once()
    watched.poller.run_once()
    log.new()
    watched.poller.run_once()
    [sent] = log.new()
    assert not any(word in sent for word in ("BEGIN", "COMMIT", "ROLLBACK", "set_config"))


def test_an_idle_look_makes_no_statement_anew(watched: Watched) -> None:
    def look() -> None:
        # So far apart that some of them measure the backlog as well.
        for _ in range(6):
            watched.clock.now += 3
            watched.poller.run_once()

    look()
    made = len(templates._templates)
    look()
    assert len(templates._templates) == made > 0


def test_the_limits_of_a_question_hold_for_it_and_end_with_it(url: str) -> None:
    engine = sa.create_engine(url, pool_size=1, max_overflow=0)
    limits = BurstLimits(statement_timeout_seconds=0.2, lock_timeout_seconds=3.0)
    shown = sa.text("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
    with autocommit(engine, limits) as connection:
        assert tuple(connection.execute(shown).one()) == ("200ms", "3s")
        with pytest.raises(sa.exc.OperationalError, match="statement timeout"):
            connection.execute(sa.text("SELECT pg_sleep(20)"))
    with engine.connect() as connection:
        assert tuple(connection.execute(shown).one()) == ("0", "0")
        assert connection.scalar(sa.text("SELECT 1")) == 1
    engine.dispose()


def test_a_question_warns_of_nothing_and_leaves_no_transaction_open(url: str) -> None:
    engine = sa.create_engine(url)
    with autocommit(engine, BurstLimits()) as connection:
        driver_connection = connection.connection.driver_connection
        assert driver_connection is not None
        connection.execute(sa.text("SELECT 1 WHERE '%' = :sign"), {"sign": "%"}).one()
        assert driver_connection.notices == []
        state = "SELECT state FROM pg_stat_activity WHERE pid = " + str(driver_connection.get_backend_pid())
        with contextlib.closing(sa.create_engine(url).connect()) as other:
            assert other.scalar(sa.text(state)) == "idle"
    engine.dispose()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "AUTOCOMMIT", None])
def test_a_question_leaves_isolation_level_of_application_alone(url: str, log: StatementLog, level: str | None) -> None:
    options = {} if level is None else {"isolation_level": level}
    engine = sa.create_engine(url, pool_size=1, max_overflow=0, **options)
    show = sa.text("SHOW transaction_isolation")
    with engine.connect() as connection:
        before = connection.scalar(show), connection.connection.driver_connection.autocommit
    log.new()
    with autocommit(engine, BurstLimits()) as connection:
        connection.execute(sa.text("SELECT 1"))
    assert len(log.new()) == 1
    with engine.connect() as connection:
        assert (connection.scalar(show), connection.connection.driver_connection.autocommit) == before
    engine.dispose()


def verbs(sent: list[str]) -> list[str]:
    """What each message does, by its first words."""
    names = ("BEGIN", "SET LOCAL", "SELECT", "SAVEPOINT", "DELETE", "SET CONSTRAINTS", "ROLLBACK TO", "RELEASE")
    # Settings may come first in the message of a statement.
    return [
        "DELETE" if "DELETE FROM" in one else next((name for name in (*names, "COMMIT") if one.startswith(name)), one)
        for one in sent
    ]


def test_a_burst_is_four_messages_whatever_the_number_of_its_signals_and_the_first_rehearses(
    url: str, log: StatementLog
) -> None:
    turns = Turns(url, burst_count=100)
    # The first burst takes half of the burst count, and asks how large its rows are, because nothing is known of them.
    turns.execute("""INSERT INTO "order" SELECT n, '' FROM generate_series(1, 150) n""")
    log.new()
    turns.turn()
    burst = ["BEGIN", "SET LOCAL", "DELETE", "COMMIT"]
    rehearsal = ["SAVEPOINT", "DELETE", "SET CONSTRAINTS", "ROLLBACK TO", "RELEASE"]
    first = verbs(log.new())
    assert first[0] == "BEGIN"
    assert first[-7:] == [*rehearsal, *burst[2:]]
    assert len(first) <= 9 + 7
    # Within a minute of the first, none is rehearsed again.
    turns.turns_until(lambda: True)
    assert verbs(log.new()) == burst
    with turns.engine.connect() as connection:
        assert connection.scalar(sa.text('SELECT count(*) FROM "order"')) == 0
    turns.engine.dispose()
