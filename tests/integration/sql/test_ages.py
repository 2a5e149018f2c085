"""How old signals are, as the database tells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.application.databases import Databases
from relay.application.load import LoadedApp
from relay.operations.backlog import Backlogs
from tests.support.outbox_app import OutboxApp
from tests.support.postgres import PrivatePostgres


@pytest.fixture(scope="module")
def timing_postgres() -> Iterator[PrivatePostgres]:
    with PrivatePostgres(settings=["track_commit_timestamp=on"]) as server:
        yield server.start()


def age(url: str) -> float | None:
    outbox = OutboxApp(url)
    order = outbox.model("Order")
    outbox.create()
    outbox.write(order, 1)
    # A transaction that only takes locks changes no row's time.
    outbox.execute('SELECT FROM "order" FOR UPDATE')
    [found] = Backlogs(Databases(LoadedApp(outbox.app, outbox.db.signalbus))).measure()
    assert found.signals == 1
    outbox.close()
    return found.oldest_age_seconds


def test_times_of_commits_tell_age_where_server_keeps_them(timing_postgres: PrivatePostgres) -> None:
    seconds = age(timing_postgres.create_database())
    assert seconds is not None
    assert 0 < seconds < 60


def test_without_them_nothing_tells_age_of_model_without_time(database_url: str) -> None:
    assert age(database_url) is None
