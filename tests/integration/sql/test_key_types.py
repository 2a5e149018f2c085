"""Keys whose type in the model is not that of the column: the server compares the two, or the model is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from relay.checks.run import Subject, find_problems
from relay.config.resolve import resolve
from relay.poller.maintenance import TableError
from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store.table import TableRetryStore
from signalbus_core import SignalModelError
from signalbus_core.lowlevel import BurstLimits, key_problems, parked, transaction
from tests.integration.poller.test_poller import Watched
from tests.support.outbox_app import OutboxApp
from tests.support.servers import Postgres

MOOD = sa.Enum("sad", "glad", name="mood")

#: By name, the model's type, the column's, and a key.
REFUSED: dict[str, tuple[Any, str, str]] = {
    "text over enum": (sa.Text, "mood", "'sad'"),
    "enum of another name": (sa.Enum("sad", "glad", name="feeling"), "mood", "'sad'"),
    "text over domain of enum": (sa.Text, "mood_domain", "'sad'"),
    "text over inet": (sa.Text, "inet", "'10.0.0.1'"),
    "text over uuid": (sa.Text, "uuid", "'7c9e6679-7425-40de-944b-e07fc1f90ae7'"),
    "uuid over text": (sa.Uuid, "text", "'7c9e6679-7425-40de-944b-e07fc1f90ae7'"),
    "text over numeric": (sa.Text, "numeric", "1.5"),
    "integer over text": (sa.Integer, "text", "'2'"),
    "text over integer": (sa.Text, "integer", "2"),
    "bytea over text": (sa.LargeBinary, "text", "'ab'"),
    "text over bytea": (sa.Text, "bytea", "'ab'"),
    "text over interval": (sa.Text, "interval", "'1 day'"),
    "text over timestamptz": (sa.Text, "timestamptz", "now()"),
    "text over array": (sa.Text, "int[]", "'{1}'"),
    "text over range": (sa.Text, "int4range", "'[1,2)'"),
    "text over jsonb": (sa.Text, "jsonb", "'{}'"),
    "integer over boolean": (sa.Integer, "boolean", "true"),
    "text over a composite": (sa.Text, "pair", "'(1,2)'"),
}
COMPARED: dict[str, tuple[Any, str, str]] = {
    "enum": (MOOD, "mood", "'sad'"),
    "text over domain of text": (sa.Text, "text_domain", "'ab'"),
    "text over char": (sa.Text, "char(5)", "'ab'"),
    "text over citext": (sa.Text, "citext", "'Ab'"),
    "text over name": (sa.Text, "name", "'ab'"),
    "integer over numeric": (sa.Integer, "numeric", "2"),
    "integer over oid": (sa.Integer, "oid", "2"),
    "naive over timestamptz": (sa.DateTime, "timestamptz", "now()"),
    "range": (postgresql.INT4RANGE, "int4range", "'[1,2)'"),
    "inet": (postgresql.INET, "inet", "'10.0.0.1'"),
}


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> str:
    url = postgres.create_database()
    app = OutboxApp(url)
    app.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE DOMAIN mood_domain AS mood",
        "CREATE DOMAIN text_domain AS text",
        "CREATE TYPE pair AS (a int, b int)",
        "CREATE EXTENSION IF NOT EXISTS citext",
    )
    app.close()
    return url


class Outbox(OutboxApp):
    """An application with a signal model whose send method fails.

    :param kind: the type of its key in the model; in the database it is ``column``.
    """

    def __init__(self, url: str, kind: Any, column: str, key: str) -> None:
        super().__init__(url)
        self.sent = 0
        self.order = self.model("Order", lambda _signal: self._fail(), id=sa.Column(kind, primary_key=True))
        own = [self.db.metadata.tables[name] for name in ("signalbus_parked", "signalbus_paused")]
        with self.app.app_context():
            self.engine = self.db.engine
            self.db.metadata.create_all(self.engine, tables=own)
        self.execute(
            'DROP TABLE IF EXISTS "order"',
            "TRUNCATE signalbus_parked",
            f'CREATE TABLE "order" (id {column} PRIMARY KEY)',
            f'INSERT INTO "order" VALUES ({key})',
        )

    def _fail(self) -> None:
        self.sent += 1
        raise ValueError("it cannot be sent")


@pytest.fixture
def outbox(url: str, request: pytest.FixtureRequest) -> Iterator[Outbox]:
    outbox = Outbox(url, *request.param)
    yield outbox
    outbox.close()


def of(kinds: dict[str, tuple[Any, str, str]]) -> Any:
    return pytest.mark.parametrize("outbox", kinds.values(), ids=kinds, indirect=True)


@of(REFUSED)
def test_a_key_that_the_server_does_not_compare_is_refused_before_a_send(outbox: Outbox) -> None:
    with outbox.app.app_context(), pytest.raises(SignalModelError, match=r"does not compare.*Give both the same type"):
        outbox.db.signalbus.flushmany()
    assert outbox.sent == 0


@of(COMPARED)
def test_a_failed_signal_whose_key_the_server_compares_is_left_out(outbox: Outbox) -> None:
    spec = outbox.spec(outbox.order)
    with transaction(outbox.engine, BurstLimits()) as connection:
        assert not key_problems(connection, [spec])
    store = TableRetryStore(spec, outbox.engine, RetryPolicy(), BurstLimits())
    for _ in range(3):
        store.put(outbox.burst(outbox.order, limit=1, choice=store.choice(())).failed)
    assert outbox.sent == 1
    with transaction(outbox.engine, BurstLimits()) as connection:
        assert sum(parked.count_failed(connection, spec)) == 1


@of({"text over enum": REFUSED["text over enum"]})
def test_a_key_that_is_not_compared_is_a_finding_of_the_check(outbox: Outbox) -> None:
    with outbox.app.app_context():
        findings = find_problems(Subject(outbox.app, outbox.db.signalbus, resolve({"app": "shop"}, {})), ["tables"])
    [found] = [one for one in findings if one.code == "table-unfit"]
    assert "mood = text" in found.problem


def test_a_relay_does_not_start_with_a_key_that_is_not_compared(database_url: str) -> None:
    watched = Watched(database_url, models=3)
    watched.execute("ALTER TABLE m01 ALTER second DROP DEFAULT", "ALTER TABLE m01 ALTER second TYPE uuid USING NULL")
    with pytest.raises(TableError, match=r"'m01'.*uuid = text"):
        watched.poller.run_once()
    watched.engine.dispose()
