"""What was sent is found, sent again and erased, by the commands and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from relay.application.databases import Databases
from relay.application.load import LoadedApp
from relay.checks.tables import check_tables
from relay.cli import cli
from relay.exit_codes import CommandError
from relay.operations.sent import SentSignals
from relay.web.actions import Operations
from relay.web.app import create_app
from relay.web.auth import Guard
from relay.web.database_bulkhead import DatabaseBulkhead
from relay.web.sent_routes import sent_routes
from signalbus_core.lowlevel import SentFilter, prepare_history
from signalbus_core.rabbitmq import Message
from tests.support.broker import taken
from tests.support.outbox_app import OutboxApp
from tests.support.servers import Postgres

TOKEN = "a-token-of-thirty-two-characters"


class Sent:
    """An application that has sent three orders to a queue of its own."""

    def __init__(self, url: str, amqp_url: str) -> None:
        self.queue, self.new_queue = f"sent-{uuid4()}", f"new-{uuid4()}"
        self.outbox = OutboxApp(url, SIGNALBUS_RABBITMQ_URL=amqp_url)
        self.connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
        self.channel = self.connection.channel()
        for queue in (self.queue, self.new_queue):
            self.channel.queue_declare(queue)

        def message(signal: Any) -> Message:
            if signal.note == "bad":
                raise ValueError("no such note")
            if signal.note == "invalid":
                return Message("", "x" * 300, "too long a routing key")
            queue = f"gone-{uuid4()}" if signal.note == "lost" else self.queue
            return Message("", queue, f"{signal.note} of {signal.customer}")

        columns = {"customer": sa.Column(sa.Integer), "note": sa.Column(sa.Text)}
        self.model = self.outbox.rabbitmq_model("Order", message, signalbus_keep_days=7, **columns)
        self.own = self.outbox.model("Own", signalbus_keep_days=7)
        self.outbox.create()
        self.outbox.write(self.model, 1, 2, customer=7, note="order")
        self.outbox.write(self.model, 3, customer=8, note="order")
        assert self.outbox.burst(self.model, limit=10).sent == 3
        self.first = self.taken(self.queue)

    def taken(self, queue: str) -> list[tuple[pika.BasicProperties, bytes]]:
        return [(properties, body) for _, properties, body in taken(self.channel, queue)]

    def close(self) -> None:
        for queue in (self.queue, self.new_queue):
            self.channel.queue_delete(queue)
        self.connection.close()
        self.outbox.close()


@pytest.fixture(scope="module")
def once(postgres: Postgres, amqp_url: str) -> Iterator[tuple[Sent, LoadedApp]]:
    with postgres.lend_database() as url:
        sent = Sent(url, amqp_url)
        yield sent, LoadedApp(sent.outbox.app, sent.outbox.db.signalbus)
        sent.close()


@pytest.fixture
def sent(once: tuple[Sent, LoadedApp], monkeypatch: pytest.MonkeyPatch) -> Sent:
    sent, loaded = once
    monkeypatch.setenv("FLASK_APP", "shop:app")
    for module in ("explain", "sent", "shared"):
        monkeypatch.setattr(f"relay.commands.{module}.load", lambda given: loaded)
    return sent


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_signal_is_found_by_key_id_and_time(sent: Sent) -> None:
    [one] = lines(run("sent", "list", "Order", "--key", "002", "--json"))
    properties, _ = sent.first[1]
    [message] = one["messages"]
    assert message == {"message_id": properties.message_id, "exchange": "", "routing_key": sent.queue}
    assert lines(run("sent", "list", "--key", "002", "--json")) == [one]
    assert lines(run("sent", "list", "--message-id", properties.message_id, "--json")) == [one]
    assert len(lines(run("sent", "list", "--since", "1h", "--json"))) == 3
    assert lines(run("sent", "list", "--until", "2026-01-01", "--json")) == []
    assert "order of 7" not in run("sent", "show", "Order", "2").stdout
    assert json.loads(run("sent", "show", "Order", "2", "--row", "--json").stdout)["row"]["customer"] == "7"


@pytest.mark.parametrize("arguments", [["--since", "yesterday"], ["--limit", "0"]], ids=str)
def test_what_cannot_be_meant_is_refused(sent: Sent, arguments: list[str]) -> None:
    assert run("sent", "list", *arguments).exit_code == 2


def test_a_key_that_was_not_sent_is_told(sent: Sent) -> None:
    for key in ("9", "x"):
        assert run("sent", "show", "Order", key).exit_code == 1


def test_explain_tells_when_a_signal_was_sent(sent: Sent) -> None:
    done = run("explain", "Order", "1", "--no-broker", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["state"], found["sent"][0]["key"]) == ("sent", "1")


def test_a_replay_has_the_same_messages_and_says_so(sent: Sent) -> None:
    done = run("sent", "replay", "Order", "--since", "1h", "--to-queue", sent.new_queue, "--yes", "--json")
    assert lines(done) == [{"model": "Order", "sent": 3, "failed": 0, "stopped": False}]
    again = sent.taken(sent.new_queue)
    assert [body for _, body in again] == [body for _, body in sent.first]
    assert [one.message_id for one, _ in again] == [one.message_id for one, _ in sent.first]
    assert all(list(one.headers) == ["signalbus-replay"] for one, _ in again)
    assert sent.taken(sent.queue) == []


def test_a_replay_goes_to_its_own_destination(sent: Sent) -> None:
    assert run("sent", "replay", "Order", "3", "--yes").exit_code == 0
    assert [body for _, body in sent.taken(sent.queue)] == [b"order of 8"]


def test_a_replay_asks_first(sent: Sent) -> None:
    done = CliRunner().invoke(cli, ["sent", "replay", "Order", "3"], input="n\n")
    assert (done.exit_code, sent.taken(sent.queue)) == (1, [])


def test_a_replay_into_a_queue_that_is_gone_is_refused(sent: Sent) -> None:
    done = run("sent", "replay", "Order", "3", "--to-queue", f"gone-{uuid4()}", "--yes")
    assert done.exit_code == 1
    assert "does not exist" in done.stderr


def test_an_own_send_method_is_not_replayed(sent: Sent) -> None:
    done = run("sent", "replay", "Own", "3", "--yes")
    assert done.exit_code == 1
    assert "send method of its own" in done.stderr


def test_one_message_that_fails_keeps_no_other_from_being_replayed(sent: Sent) -> None:
    row = '{"id": "2", "note": "bad", "customer": "7"}'
    sent.outbox.execute(f"UPDATE signalbus_sent SET row = CAST('{row}' AS json) WHERE key = '2'".replace(":", r"\:"))
    done = run("sent", "replay", "Order", "--since", "1h", "--to-queue", sent.new_queue, "--yes", "--json")
    assert (done.exit_code, json.loads(done.stdout)["sent"]) == (1, 2)
    assert "Order 2 was not sent" in done.stderr
    assert len(sent.taken(sent.new_queue)) == 2


@pytest.mark.parametrize(("note", "reason"), [("lost", "returned"), ("invalid", "invalid")])
def test_a_signal_without_a_destination_ends_no_replay(sent: Sent, note: str, reason: str) -> None:
    row = json.dumps({"id": "2", "note": note, "customer": "7"})
    sent.outbox.execute(f"UPDATE signalbus_sent SET row = CAST('{row}' AS json) WHERE key = '2'".replace(":", r"\:"))
    done = run("sent", "replay", "Order", "--since", "1h", "--yes", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"model": "Order", "sent": 2, "failed": 1, "stopped": False}
    assert f"Order 2 was not sent: {reason}" in done.stderr
    assert len(sent.taken(sent.queue)) == 2


def test_a_replay_stops_where_its_queue_is_full(sent: Sent) -> None:
    full = f"full-{uuid4()}"
    limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
    sent.channel.queue_declare(full, arguments=limits, exclusive=True)
    sent.channel.confirm_delivery()
    sent.channel.basic_publish("", full, b"first")
    done = run("sent", "replay", "Order", "3", "--to-queue", full, "--yes", "--json")
    assert (done.exit_code, json.loads(done.stdout)["stopped"]) == (1, True)
    assert "Stopped at Order 3: nacked" in done.stderr


def test_a_lost_column_is_left_out_and_a_new_one_is_null(sent: Sent) -> None:
    row = '{"id": "3", "note": "old", "gone": "x"}'
    sent.outbox.execute(f"UPDATE signalbus_sent SET row = CAST('{row}' AS json) WHERE key = '3'".replace(":", r"\:"))
    assert run("sent", "replay", "Order", "3", "--yes").exit_code == 0
    assert [body for _, body in sent.taken(sent.queue)] == [b"old of None"]


def client(sent: Sent) -> Any:
    databases = Databases(LoadedApp(sent.outbox.app, sent.outbox.db.signalbus))
    guard = Guard(TOKEN)
    return create_app([sent_routes(Operations(databases, DatabaseBulkhead(), None), guard)], guard).test_client()


def test_rows_are_shown_over_http_only_with_the_token(sent: Sent, caplog: pytest.LogCaptureFixture) -> None:
    asking = client(sent)
    [one] = asking.get("/api/sent?model=Order&key=1").get_json()["signals"]
    assert "row" not in one
    body = {"model": "Order", "key": "1"}
    assert asking.post("/api/sent/rows", json=body).status_code == 401
    answer = asking.post("/api/sent/rows", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.get_json()["signals"][0]["row"]["customer"] == "7"
    assert "history_read" in [vars(record).get("action") for record in caplog.records]
    assert "order" not in caplog.text.replace("Order", "")


def test_the_page_finds_a_signal(sent: Sent) -> None:
    page = client(sent).get("/sent?model=Order&key=1").get_data(as_text=True)
    assert sent.first[0][0].message_id in page
    assert sent.first[0][0].message_id in client(sent).get("/sent?key=1").get_data(as_text=True)


def test_a_key_without_a_model_is_one_of_any_model(database_url: str) -> None:
    outbox = OutboxApp(database_url)
    text_key = sa.Column(sa.Text, primary_key=True)
    models = [outbox.model("Number", signalbus_keep_days=7), outbox.model("Name", id=text_key, signalbus_keep_days=7)]
    outbox.create()
    for model, keys in zip(models, [(1, 2), ("1", "x")], strict=True):
        outbox.write(model, *keys)
        assert outbox.burst(model, limit=10).sent == 2
    signals = SentSignals(Databases(LoadedApp(outbox.app, outbox.db.signalbus)))

    def found(key: str) -> set[tuple[str, str]]:
        return {(one.model, one.key) for one in signals.find(None, SentFilter(key), 10)}

    assert found("1") == {("Number", "1"), ("Name", "1")}
    # A text that is no key of one model may be one of another.
    assert found("x") == {("Name", "x")}
    assert found("y") == set()
    with pytest.raises(CommandError, match="is no key of Number"):
        signals.find("Number", SentFilter("x"), 10)
    outbox.close()


def test_check_finds_what_keeps_the_history_from_working(database_url: str) -> None:
    outbox = OutboxApp(database_url)
    spec = outbox.spec(outbox.model("Kept", signalbus_keep_days=1))
    outbox.create()

    def codes() -> set[str]:
        with outbox.db.engine.connect() as connection:
            return {one.code for one in check_tables(connection, [spec])}

    with outbox.app.app_context():
        assert "sent-table" not in codes()
        outbox.execute("DROP TABLE signalbus_sent")
        assert "sent-table" in codes()
        assert "does not exist" in str(prepare_history(outbox.db.engine, [spec]))
    outbox.close()


def test_partitions_are_made_ahead_and_one_that_is_past_is_dropped(database_url: str) -> None:
    outbox = OutboxApp(database_url)
    spec = outbox.spec(outbox.model("Kept", signalbus_keep_days=2))
    outbox.create()
    name = "format('signalbus_sent_%s', to_char(timezone('UTC', now()) + '3 days', 'YYYYMMDD'))"
    outbox.execute(
        "CREATE TABLE signalbus_sent_old PARTITION OF signalbus_sent FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')",
        "CREATE TABLE signalbus_sent_gone PARTITION OF signalbus_sent FOR VALUES FROM ('2019-01-01') TO ('2019-01-02')",
        f"DO $$ BEGIN EXECUTE 'DROP TABLE ' || {name}; EXECUTE 'CREATE TABLE ' || {name} || ' (x int)'; END $$",
    )
    listing = "SELECT CAST(inhrelid::regclass AS text) FROM pg_inherits WHERE inhparent = 'signalbus_sent'::regclass"
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        assert prepare_history(outbox.db.engine, [spec]) is None
        found = set(connection.scalars(sa.text(listing)))
        assert "signalbus_sent_gone" not in found
        # One at a time.
        assert "signalbus_sent_old" in found
        # The name of somebody else's table is left alone.
        assert len([name for name in found if name.endswith("_2")]) == 1
    outbox.close()


def test_what_belongs_to_a_person_is_erased(sent: Sent, tmp_path: Path) -> None:
    sent.outbox.write(sent.model, 4, customer=7, note="order")
    record = tmp_path / "erased.jsonl"
    where = ["--where", "row->>'customer' = '7'"]
    assert run("sent", "erase", "Order", *where, "--yes", "--record", str(record)).exit_code == 0
    assert [one["key"] for one in lines(run("sent", "list", "Order", "--json"))] == ["3"]
    written = record.read_text()
    assert json.loads(written)["sent"] == 2
    assert "customer" not in written
    assert json.loads(written)["key_sha256"] is None
    # What is still to be sent stays.
    assert sent.outbox.left(sent.model) == [4]
    for wrong in ("1 = 1; DROP TABLE x", "nix = 1", "1) OR (1=1"):
        assert run("sent", "erase", "Order", "--where", wrong, "--yes").exit_code in (1, 2)
    unreadable = run("sent", "erase", "Order", "--where", "CAST(row->>'note' AS int) = 1", "--yes")
    assert unreadable.exit_code == 1
    assert "InvalidTextRepresentation" in unreadable.stderr
    assert "old" not in unreadable.stderr.replace("--where", "")
    assert run("sent", "erase", "Order", "003", "--yes", "--record", str(record)).exit_code == 0
    assert lines(run("sent", "list", "Order", "--json")) == []
    last = json.loads(record.read_text().splitlines()[-1])
    assert last["key_sha256"] == sha256(b"3").hexdigest()
    assert "key" not in last
