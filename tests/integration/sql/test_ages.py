"""How old signals are, as the database tells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from relay.application.databases import Databases
from relay.application.load import LoadedApp
from relay.operations.backlog import Backlogs
from signalbus_core.lowlevel import measure
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


@pytest.mark.parametrize("moment", ["infinity", "-infinity"])
def test_a_time_of_writing_that_is_infinite_tells_no_age(database_url: str, moment: str) -> None:
    outbox = OutboxApp(database_url)
    order = outbox.model("Order", created_at=sa.Column(sa.DateTime(timezone=True)))
    outbox.create()
    outbox.execute(f"INSERT INTO \"order\" VALUES (1, '{moment}')")
    [found] = Backlogs(Databases(LoadedApp(outbox.app, outbox.db.signalbus))).measure()
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        [measured] = measure(connection, [outbox.spec(order)], 10)
    outbox.close()
    assert (found.signals, found.oldest_age_seconds) == (1, None)
    assert (measured.backlog, measured.age_seconds) == (1, None)
