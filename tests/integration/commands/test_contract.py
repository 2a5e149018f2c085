"""The contract with consumers: what describe writes of signals, which changes break it, and what a rehearsal finds."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pika
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from relay.application.load import LoadedApp
from relay.cli import cli
from signalbus_core.rabbitmq import Message, OutboxMessage
from tests.support.node import node_environment
from tests.support.outbox_app import OutboxApp

#: Nothing of this may be in a description.
SECRETS = ("Ada Lovelace", "ada@example.com", "4711", "9e107d9d372bb6826bd81d3542a419d6")


def placed(self: Any) -> Message:
    order = {
        "order_id": self.id,
        "customer": {"name": "Ada Lovelace", "born": None},
        "lines": [{"sku": "4711", "price": 2.5}],
        "stock": {"ada@example.com": 1, f"9e107d9d372bb6826bd81d3542a419d6{self.id}": 2},
    }
    headers = {"tenant": "4711", "attempt": 1}
    return Message(body=json.dumps(order), properties=pika.BasicProperties(headers=headers))


class Shop:
    """An application with several kinds of signals, and the commands that read it."""

    def __init__(self, outbox: OutboxApp, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outbox = outbox
        self._monkeypatch = monkeypatch

    def run(self, *arguments: str, outbox: OutboxApp | None = None) -> Result:
        shop = outbox or self.outbox
        loaded = LoadedApp(shop.app, shop.db.signalbus)
        self._monkeypatch.setattr("relay.commands.contract.load", lambda given: loaded)
        return CliRunner().invoke(cli, arguments)

    def describe(self, *arguments: str) -> dict[str, Any]:
        done = self.run("describe", *arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "note": {"$ref": "#/$defs/Note"}},
    "required": ["id", "note"],
    "$defs": {"Note": {"type": "string", "maxLength": 20}},
}


def models_of(outbox: OutboxApp, **changed: Any) -> None:
    """The models of a release. What is changed is that of a later one."""
    address = {"signalbus_exchange": "orders", "signalbus_routing_key": "order.placed"}
    outbox.rabbitmq_model("OrderPlaced", changed.get("placed", placed), **{**address, **changed.get("address", {})})
    schema = {"signalbus_schema": changed.get("schema", SCHEMA), **address, "signalbus_routing_key": "order.noted"}
    outbox.rabbitmq_model("OrderNoted", lambda self: Message(body='{"id": 1, "note": "x"}'), **schema)
    outbox.model("Mailed")
    outbox.models["Letters"] = type(
        "Letters", (OutboxMessage, outbox.db.Model), {"__tablename__": "letters", "signalbus_exchange": "letters"}
    )


@pytest.fixture
def shop(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    outbox = OutboxApp(database_url)
    models_of(outbox)
    outbox.create()
    outbox.write(outbox.models["OrderPlaced"], 1, 2, 3)
    with outbox.app.app_context():
        for customer in ("4711", "4712"):
            letter = outbox.models["Letters"](routing_key=f"letter.{customer}.sent", body_json={"pages": 3})
            outbox.db.session.add(letter)
        outbox.db.session.commit()
    yield Shop(outbox, monkeypatch)
    outbox.close()


def test_description_has_route_headers_and_fields(shop: Shop) -> None:
    document = shop.describe("--title", "Shop", "--release", "7")
    assert (document["asyncapi"], document["info"]["title"], document["info"]["version"]) == ("3.0.0", "Shop", "7")
    channel = document["channels"]["OrderPlaced"]
    assert (channel["address"], channel["bindings"]["amqp"]["exchange"]["name"]) == ("order.placed", "orders")
    message = document["components"]["messages"]["OrderPlaced"]
    assert (message["name"], message["contentType"]) == ("OrderPlaced", "text/plain")
    assert message["headers"]["required"] == ["attempt", "tenant"]
    assert message["payload"]["properties"]["lines"] == {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"sku": {"type": "string"}, "price": {"type": "number"}},
            "required": ["price", "sku"],
        },
    }
    assert message["x-signalbus-sampled"] == ["content", "headers", "payload"]
    declared = document["components"]["messages"]["OrderNoted"]
    assert declared["payload"]["properties"]["note"] == {"$ref": "#/components/messages/OrderNoted/payload/$defs/Note"}
    assert "x-signalbus-sampled" not in declared
    assert document["components"]["messages"]["Mailed"]["x-signalbus-sends-itself"] is True


def test_description_has_no_value_of_any_message(shop: Shop) -> None:
    text = shop.run("describe").stdout
    assert not [secret for secret in SECRETS if secret in text]
    assert json.loads(text)["channels"]["Letters"]["address"] == "letter.{part2}.sent"


def test_description_is_the_same_each_time(shop: Shop) -> None:
    first = shop.run("describe").stdout
    assert shop.run("describe").stdout == first
    assert first == json.dumps(json.loads(first), indent=2, sort_keys=True) + "\n"


def test_description_is_a_valid_asyncapi_document(shop: Shop) -> None:
    environment = node_environment("@asyncapi/parser")
    if environment is None:
        pytest.skip("node, or its package @asyncapi/parser, is missing: `make setup` installs it where npm is.")
    shop.outbox.write(shop.outbox.models["OrderNoted"], 1)
    script = ["node", "tests/support/asyncapi.js"]
    text = shop.run("describe").stdout
    done = subprocess.run(
        script, input=text, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == {"parsed": True, "wrong": []}


def test_description_without_samples_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = OutboxApp("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    models_of(outbox)
    document = Shop(outbox, monkeypatch).describe("--samples", "0")
    assert document["channels"]["OrderPlaced"]["address"] == "order.placed"
    assert "contentType" not in document["components"]["messages"]["OrderPlaced"]


def _without(name: str, **others: Any) -> Any:
    return lambda self: Message(body=json.dumps({**{n: v for n, v in ORDER.items() if n != name}, **others}))


ORDER = {"order_id": 1, "customer": {"name": "Ada", "born": None}, "lines": [{"sku": "1", "price": 1.5}], "stock": {}}


def _binary(self: Any) -> Message:
    return Message(body=b"{}", properties=pika.BasicProperties(content_type="application/json"))


def _schema(**changed: Any) -> dict[str, Any]:
    return {**SCHEMA, **changed}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"address": {"signalbus_exchange": "sales"}}, "its exchange changed from 'orders' to 'sales'."),
        ({"address": {"signalbus_routing_key": "new"}}, "its routing key changed from 'order.placed' to 'new'."),
        ({"placed": _binary}, "its content type changed from text/plain to application/json."),
        ({"placed": _without("order_id", order_number=1)}, "the field order_id is gone."),
        ({"placed": _without("order_id", order_id="1")}, "the field order_id changed its type from integer to string."),
        ({"placed": _without("customer", customer={"name": "A"})}, "the field customer.born is gone."),
        ({"placed": _without("lines", lines=[{"sku": "1"}])}, "the field lines[].price is gone."),
        ({"placed": _without("")}, "the header tenant is gone."),
        ({"schema": None}, "OrderNoted: it has no schema any more."),
        ({"schema": _schema(required=["id"])}, "the field note became optional."),
        ({"schema": _schema(properties={"id": {"type": "integer"}}, required=["id"])}, "the field note is gone."),
        ({"schema": _schema(**{"$defs": {"Note": {"type": "string"}}})}, "note is limited less by maxLength."),
    ],
)  # fmt: skip
def test_changes_that_break_consumers_are_found(
    shop: Shop, tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    old = tmp_path / "old.json"
    old.write_text(shop.run("describe").stdout)
    same = shop.run("describe", "--check", str(old))
    assert (same.exit_code, same.output) == (0, "Nothing breaks consumers.\n")
    newer = OutboxApp(shop.outbox.database_url)
    models_of(newer, **changed)
    done = shop.run("describe", "--check", str(old), outbox=newer)
    assert sentence in done.stdout
    assert done.exit_code == 1
    newer.close()


def test_renamed_signal_and_changed_sender_break_consumers(shop: Shop, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(shop.run("describe").stdout)
    newer = OutboxApp(shop.outbox.database_url)
    newer.rabbitmq_model("OrderCreated", placed, signalbus_exchange="orders", __tablename__="order_placed")
    newer.model("OrderNoted")
    done = shop.run("describe", "--check", str(old), outbox=newer)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "Letters is gone.",
        "OrderNoted is now sent by a send method of its own, so nothing is known of its messages.",
        "OrderPlaced is gone.",
        "Mailed is gone.",
    ]
    newer.close()


def test_what_nothing_pending_shows_is_told_and_breaks_nothing(shop: Shop, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(shop.run("describe").stdout)
    shop.outbox.execute("DELETE FROM order_placed", "DELETE FROM letters")
    done = shop.run("describe", "--check", str(old))
    assert (done.exit_code, done.stdout) == (0, "Nothing breaks consumers.\n")
    assert "OrderPlaced: no signal is pending, so its fields are not compared." in done.stderr


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"asyncapi": "2.6.0"}', '{"asyncapi": "3.0.0", "channels": {"a": 1}}']
)
def test_file_that_is_no_description_is_wrong_usage(shop: Shop, tmp_path: Path, text: str) -> None:
    old = tmp_path / "old.json"
    old.write_text(text)
    done = shop.run("describe", "--check", str(old))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--check {old}: it is" in done.stderr


def test_rehearsal_tells_which_signals_a_release_cannot_build(shop: Shop) -> None:
    def fails_at_two(self: Any) -> Message:
        if self.id == 2:
            raise KeyError("born")
        return placed(self)

    newer = OutboxApp(shop.outbox.database_url)
    models_of(newer, placed=fails_at_two)
    done = shop.run("rehearse", outbox=newer)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "Letters: 2 pending signals can be built.",
        "Mailed: cannot be rehearsed, because it has a send method of its own.",
        "OrderNoted: 0 pending signals can be built.",
        "OrderPlaced: 2 pending signals can be built, 1 cannot.",
        "  2: KeyError: 'born'",
    ]
    assert shop.run("rehearse").exit_code == 0
    newer.close()


def test_rehearsal_writes_nothing_and_one_signal_breaks_no_other(shop: Shop) -> None:
    def writes(self: Any) -> Message:
        session = sa.orm.object_session(self)
        assert session is not None
        if self.id == 1:
            session.execute(sa.text("DELETE FROM order_placed WHERE id = 1"))
        if self.id == 2:
            session.commit()
            session.execute(sa.text("DELETE FROM order_placed"))
        return placed(self)

    newer = OutboxApp(shop.outbox.database_url)
    models_of(newer, placed=writes)
    done = shop.run("rehearse", "OrderPlaced", "--json", outbox=newer)
    assert done.exit_code == 1
    [found] = map(json.loads, done.stdout.splitlines())
    assert (found["built"], [one["key"] for one in found["told"]]) == (1, [["1"], ["2"]])
    assert all("read-only" in one["reason"] for one in found["told"])
    assert shop.outbox.left(shop.outbox.models["OrderPlaced"]) == [1, 2, 3]
    newer.close()


def test_rehearsal_of_table_that_lacks_a_column_says_so(shop: Shop) -> None:
    newer = OutboxApp(shop.outbox.database_url)
    newer.rabbitmq_model("OrderPlaced", placed, note=sa.Column(sa.Text))
    done = shop.run("rehearse", outbox=newer)
    assert done.exit_code == 1
    assert "column order_placed.note does not exist" in done.stdout
    newer.close()


def test_rehearsal_tries_signals_that_are_not_due(shop: Shop) -> None:
    later = {"signalbus_send_after": sa.Column(sa.DateTime(timezone=True))}
    reminder = shop.outbox.rabbitmq_model("Reminder", lambda self: 1 / 0, **later)
    shop.outbox.create()
    shop.outbox.write(reminder, 1, signalbus_send_after=datetime(2999, 1, 1, tzinfo=timezone.utc))
    done = shop.run("rehearse", "Reminder")
    assert done.stdout.splitlines() == [
        "Reminder: 0 pending signals can be built, 1 cannot.",
        "  1: ZeroDivisionError: division by zero",
    ]
