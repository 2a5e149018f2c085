"""What was sent is moved into signalbus_sent by the statement that deletes it, and never in the way of sending."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import signalbus_core.alembic  # noqa: F401
from signalbus_core import SignalModelError
from signalbus_core.burst import failpoints
from signalbus_core.model.sending.sent_messages import SentMessage, wanted_messages
from signalbus_core.schema.own_tables import SENT
from signalbus_core.sql.sent import suspended
from tests.support.outbox_app import OutboxApp

WRITTEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


def send(signals: list[Any]) -> None:
    """Tell of the messages of signals, as a publisher does."""
    wanted = wanted_messages()
    if wanted is not None:
        for one in signals:
            wanted.record(one, lambda one=one: [SentMessage(f'"{one.id}\\', "orders", "placed")] * one.messages)


def kept_model(outbox: OutboxApp, name: str = "Kept", **members: Any) -> Any:
    members = {
        "signalbus_keep_days": 7,
        "signalbus_burst_count": 100,
        "messages": sa.Column(sa.Integer, server_default="1"),
        "odd": sa.Column("a \"%s:b'", sa.Text),
        "created_at": sa.Column(sa.DateTime(timezone=True)),
        **members,
    }
    return outbox.model(name, lambda self: send([self]), send_signalbus_messages=staticmethod(send), **members)


@pytest.fixture
def outbox(database_url: str) -> Iterator[OutboxApp]:
    outbox = OutboxApp(database_url)
    yield outbox
    outbox.close()


@pytest.fixture
def kept(outbox: OutboxApp) -> Any:
    model = kept_model(outbox)
    outbox.create()
    return model


def history(outbox: OutboxApp) -> list[Any]:
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        return list(connection.execute(sa.text("SELECT * FROM signalbus_sent ORDER BY length(key), key")))


def today(outbox: OutboxApp) -> date:
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        found = connection.scalar(sa.text("SELECT CAST(timezone('UTC', now()) AS date)"))
        assert isinstance(found, date)
        return found


def test_a_sent_signal_is_moved_with_its_messages(outbox: OutboxApp, kept: Any) -> None:
    outbox.write(kept, 1, 2, odd="text", created_at=WRITTEN)
    assert outbox.burst(kept).sent == 2
    assert outbox.left(kept) == []
    one, two = history(outbox)
    assert (one.table_name, one.key, one.written_at) == ("kept", "1", WRITTEN)
    assert (two.message_id, two.exchange, two.routing_key, two.more_messages) == ('"2\\', "orders", "placed", None)
    assert one.row == {"id": "1", "messages": "1", "a \"%s:b'": "text", "created_at": "2026-01-02 03:04:05.678901+00"}
    assert one.keep_until == today(outbox) + timedelta(7)


def test_further_messages_are_kept_too(outbox: OutboxApp, kept: Any) -> None:
    outbox.write(kept, 1, messages=3)
    outbox.write(kept, 2, messages=0)
    outbox.burst(kept)
    three, none = history(outbox)
    assert three.more_messages == [{"message_id": '"1\\', "exchange": "orders", "routing_key": "placed"}] * 2
    assert none.message_id is None


@pytest.mark.parametrize("kind", [sa.Uuid(), sa.Text(), sa.Numeric()], ids=str)
def test_keys_of_other_types_are_moved_with_messages(outbox: OutboxApp, kind: Any) -> None:
    model = kept_model(
        outbox,
        id=sa.Column(
            kind,
            primary_key=True,
            server_default="00000000-0000-0000-0000-000000000001" if isinstance(kind, sa.Uuid) else "17",
        ),
    )
    outbox.create()
    outbox.execute("INSERT INTO kept DEFAULT VALUES")
    assert outbox.burst(model).sent == 1
    [one] = history(outbox)
    assert one.exchange == "orders"
    assert one.row["id"] == one.key


def test_flushmany_keeps_what_it_sends(outbox: OutboxApp, kept: Any) -> None:
    outbox.write(kept, *range(1, 251))
    with outbox.app.app_context():
        assert outbox.db.signalbus.flushmany() == 250
    assert len(history(outbox)) == 250


def test_a_model_that_keeps_nothing_has_no_table(outbox: OutboxApp) -> None:
    model = outbox.model("Plain")
    outbox.create()
    outbox.write(model, 1)
    assert outbox.burst(model).sent == 1
    assert SENT.name not in outbox.db.metadata.tables


@pytest.mark.parametrize("days", [0, -1, "7", 7.0, True, 36_501, [7]])
def test_keep_days_are_a_number_of_days(outbox: OutboxApp, days: Any) -> None:
    model = kept_model(outbox, signalbus_keep_days=days)
    with pytest.raises(SignalModelError, match="signalbus_keep_days"):
        outbox.spec(model)


def test_autogenerate_leaves_the_partitions_alone(outbox: OutboxApp) -> None:
    kept_model(outbox)
    outbox.create()
    outbox.execute("CREATE TABLE signalbus_sent_of_others (id int)")
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), outbox.db.metadata)
    assert [(kind, table.name) for kind, table in differences] == [("remove_table", "signalbus_sent_of_others")]


DROP_PARTITIONS = """
    DO $$ DECLARE one regclass; BEGIN
        FOR one IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'signalbus_sent'::regclass
        LOOP EXECUTE 'DROP TABLE ' || one; END LOOP;
    END $$
"""

BROKEN = {
    "missing": ["DROP TABLE signalbus_sent"],
    "without a partition": [DROP_PARTITIONS],
    "another table": ["DROP TABLE signalbus_sent", "CREATE TABLE signalbus_sent (x int)"],
    "a view": ["DROP TABLE signalbus_sent", "CREATE VIEW signalbus_sent AS SELECT 1 AS x"],
    "refusing rows": ["ALTER TABLE signalbus_sent ADD CHECK (key = '')"],
    "with a rule": ["CREATE RULE none AS ON INSERT TO signalbus_sent DO INSTEAD NOTHING"],
}


@pytest.mark.parametrize("statements", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("rehearse", [False, True])
def test_signals_are_sent_once_without_a_history(
    outbox: OutboxApp, kept: Any, statements: list[str], rehearse: bool, caplog: pytest.LogCaptureFixture
) -> None:
    outbox.write(kept, 1, 2)
    outbox.execute(*statements)
    with caplog.at_level(logging.WARNING):
        result = outbox.burst(kept, rehearse=rehearse)
    assert (result.sent, result.undeleted, result.failed) == (2, (), ())
    assert outbox.left(kept) == []
    assert [one.action for one in caplog.records] == ["history_suspended"]  # type: ignore[attr-defined]
    outbox.write(kept, 3)
    assert outbox.burst(kept).sent == 1


@pytest.mark.parametrize("place", ["locked", "confirmed", "deleted", "committed"])
@pytest.mark.parametrize("key", [sa.BigInteger(), sa.Text()], ids=str)
def test_at_every_moment_a_signal_is_in_one_table(outbox: OutboxApp, place: str, key: Any) -> None:
    model = kept_model(outbox, id=sa.Column(key, primary_key=True, autoincrement=False))
    outbox.create()
    outbox.write(model, *(number if isinstance(key, sa.Integer) else str(number) for number in range(10)))  # type: ignore[arg-type]
    reached: list[str] = []

    def act(at: str) -> None:
        check_sum(outbox, 10)
        if at == place and not reached:
            reached.append(at)
            outbox.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in%'"
            )

    failpoints.switch_on(act)
    try:
        outbox.burst(model)
    finally:
        failpoints.switch_on(None)
    assert reached
    check_sum(outbox, 10)
    outbox.burst(model)
    assert (outbox.left(model), len(history(outbox))) == ([], 10)


def check_sum(outbox: OutboxApp, written: int) -> None:
    """What was written is in the outbox or in the history, as another session sees it in one snapshot."""
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        both = "SELECT CAST(id AS text) FROM kept UNION ALL SELECT key FROM signalbus_sent"
        assert sorted(connection.scalars(sa.text(both))) == [str(number) for number in range(written)]


def test_a_row_that_cannot_be_deleted_is_blamed_not_the_history(outbox: OutboxApp, kept: Any) -> None:
    outbox.execute("CREATE TABLE child (kept_id bigint REFERENCES kept)")
    outbox.write(kept, 1, 2)
    outbox.execute("INSERT INTO child VALUES (1)")
    result = outbox.burst(kept, can_keep_rows=True)
    assert (result.sent, [one.key for one in result.undeleted]) == (1, [(1,)])
    assert [one.key for one in history(outbox)] == ["2"]
    with outbox.app.app_context():
        assert suspended.why_suspended(outbox.db.engine, SENT.of(outbox.spec(kept))) is None


FAILS_ONCE = (
    "CREATE SEQUENCE tries",
    (
        "CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF nextval(''tries'') = 1 THEN RAISE foreign_key_violation; END IF; RETURN NEW; END'"
    ),
    "CREATE TRIGGER fail_once BEFORE INSERT ON signalbus_sent FOR EACH ROW EXECUTE FUNCTION fail_once()",
)


@pytest.mark.parametrize("is_locked", [True, False])
def test_a_move_that_fails_for_a_moment_costs_no_history(outbox: OutboxApp, kept: Any, is_locked: bool) -> None:
    """A foreign key, for example, whose row was deleted just before the rows were deleted without a history."""
    outbox.execute(*FAILS_ONCE)
    outbox.write(kept, 1, 2)
    assert outbox.burst(kept, can_keep_rows=not is_locked).sent == 2
    assert [one.key for one in history(outbox)] == ["1", "2"]
    with outbox.app.app_context():
        assert suspended.why_suspended(outbox.db.engine, SENT.of(outbox.spec(kept))) is None


def test_the_rehearsal_keeps_nothing(outbox: OutboxApp, kept: Any) -> None:
    outbox.write(kept, 1)
    outbox.burst(kept, rehearse=True)
    assert len(history(outbox)) == 1


def test_what_the_sender_updates_is_kept_as_it_is_then(outbox: OutboxApp) -> None:
    def update(signals: list[Any]) -> None:
        send(signals)
        for one in signals:
            one.odd = "updated"
        outbox.db.session.flush()

    model = outbox.model(
        "Kept",
        lambda self: update([self]),
        send_signalbus_messages=staticmethod(update),
        signalbus_burst_count=100,
        signalbus_keep_days=1,
        odd=sa.Column(sa.Text),
        messages=sa.Column(sa.Integer, server_default="1"),
    )
    outbox.create()
    outbox.write(model, 1)
    assert outbox.burst(model).sent == 1
    [one] = history(outbox)
    assert (one.row["odd"], one.exchange) == ("updated", "orders")
