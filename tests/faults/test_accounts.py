"""The check of the sum itself: what is missing, or there twice, is seen while it is so."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg2
import pytest

from tests.support.waiting import eventually

from .accounts import Accounts

TABLES = """
    CREATE TABLE business (number bigint); CREATE TABLE signal (number bigint); CREATE TABLE neighbour (number bigint);
    CREATE TABLE signalbus_sent (table_name text, sent_at timestamptz DEFAULT now(), row json);
    INSERT INTO business VALUES (1), (2), (3), (4), (5);
    INSERT INTO signal VALUES (2), (3); INSERT INTO neighbour VALUES (4);
    INSERT INTO signalbus_sent VALUES ('signal', now(), '{"number": "5"}')
"""


@pytest.fixture
def dsn(database_url: str) -> Iterator[str]:
    dsn = database_url.replace("+psycopg2", "")
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLES)
    yield dsn
    connection.close()


def seen(dsn: str, *statements: str) -> Accounts:
    """The accounts after the state that each of these statements leaves was seen."""
    accounts = Accounts(lambda: dsn, 2, ("signal", "neighbour"))
    connection = psycopg2.connect(dsn)
    for statement in ("", *statements):
        if statement:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
        looks = accounts.looks
        eventually(lambda looks=looks: accounts.looks >= looks + 2)
    connection.close()
    accounts.stop()
    return accounts


def test_signals_that_move_from_outbox_to_history_are_accounted_for(dsn: str) -> None:
    moving = "WITH gone AS (DELETE FROM signal RETURNING number) INSERT INTO signalbus_sent"
    accounts = seen(
        dsn, f"{moving} SELECT 'signal', now(), json_build_object('number', CAST(number AS text)) FROM gone"
    )
    assert accounts.problems(set()) == []


def test_a_signal_that_was_missing_for_a_moment_is_told(dsn: str) -> None:
    accounts = seen(dsn, "DELETE FROM signal WHERE number = 2", "INSERT INTO signal VALUES (2)")
    assert accounts.problems(set()) == ["1 signals were in neither outbox nor history for a moment: 2"]
    # The application has deleted it itself.
    assert accounts.problems({2}) == []


def test_a_signal_that_was_there_twice_is_told(dsn: str) -> None:
    accounts = seen(dsn, "INSERT INTO signal VALUES (5)", "DELETE FROM signal WHERE number = 5")
    assert accounts.problems(set()) == ["1 signals were there twice for a moment: 5"]


def test_a_sum_that_was_never_seen_is_told() -> None:
    accounts = Accounts(lambda: "host=127.0.0.1 port=1", 1, ("signal",))
    accounts.stop()
    assert accounts.problems(set()) == ["whether the sum holds was never seen"]
