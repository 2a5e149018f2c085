"""A rehearsal builds the messages of signals that were sent too, with the code and the table of a new release."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from relay.application.load import LoadedApp
from relay.cli import cli
from signalbus_core.rabbitmq import Message, RabbitMQSignal
from signalbus_core.testing import FakePublisher
from tests.support.outbox_app import OutboxApp


def noted(self: Any) -> Message:
    return Message("orders", "placed", json.dumps({"note": self.note}))


class Releases:
    """An application that has sent two signals and has one to send, and the releases that follow."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self._monkeypatch = monkeypatch
        self._apps: list[OutboxApp] = []
        self.first = self.release(noted, note=sa.Column(sa.Text))
        self.first.create()
        self._publisher = FakePublisher(self.first.app)
        self.first.write(self.first.models["Placed"], 1, 2, note="x")
        assert self.first.burst(self.first.models["Placed"], limit=10).sent == 2
        self.first.write(self.first.models["Placed"], 3, note="y")

    def release(self, message: Callable[[Any], Message], **columns: Any) -> OutboxApp:
        outbox = OutboxApp(self.url)
        outbox.rabbitmq_model("Placed", message, **{"signalbus_keep_days": 7, **columns})
        self._apps.append(outbox)
        return outbox

    def rehearse(self, outbox: OutboxApp, *arguments: str) -> Result:
        loaded = LoadedApp(outbox.app, outbox.db.signalbus)
        self._monkeypatch.setattr("relay.commands.contract.load", lambda given: loaded)
        return CliRunner().invoke(cli, ["rehearse", *arguments])

    def close(self) -> None:
        self._publisher.close()
        for one in self._apps:
            one.close()


@pytest.fixture
def releases(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    releases = Releases(database_url, monkeypatch)
    yield releases
    releases.close()


def test_pending_and_kept_signals_are_built(releases: Releases) -> None:
    done = releases.rehearse(releases.first)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "Placed: 1 pending signal can be built.",
        "Placed: 2 kept signals can be built.",
    ]
    pending, kept = map(json.loads, releases.rehearse(releases.first, "--json").stdout.splitlines())
    assert (pending["source"], kept["source"], kept["built"], kept["messages"]) == ("pending", "kept", 2, 2)
    assert releases.rehearse(releases.first, "--pending").stdout == "Placed: 1 pending signal can be built.\n"


def test_kept_signals_that_a_release_cannot_build_are_told(releases: Releases) -> None:
    def fails(self: Any) -> Message:
        if self.id == 2:
            sa.orm.object_session(self).execute(sa.text("SELECT 1 / 0"))  # type: ignore[union-attr]
        return noted(self)

    done = releases.rehearse(releases.release(fails, note=sa.Column(sa.Text)))
    assert done.exit_code == 1
    first, second, third = done.stdout.splitlines()
    assert first == "Placed: 1 pending signal can be built."
    assert second == "Placed: 1 kept signal can be built, 1 cannot."
    assert third.startswith("  2: ")


def test_a_renamed_column_that_must_not_be_null_fails(releases: Releases) -> None:
    releases.first.execute("ALTER TABLE placed RENAME note TO remark")
    newer = releases.release(
        lambda self: Message("orders", "placed", self.remark), remark=sa.Column(sa.Text, nullable=False)
    )
    done = releases.rehearse(newer)
    assert done.exit_code == 1
    assert "Placed: 1 pending signal can be built." in done.stdout
    assert "Placed: 0 kept signals can be built, 2 cannot." in done.stdout
    assert "its row has no remark, which may not be NULL" in done.stdout


def test_a_renamed_column_that_may_be_null_is_told(releases: Releases) -> None:
    releases.first.execute("ALTER TABLE placed RENAME note TO remark")
    newer = releases.release(
        lambda self: Message("orders", "placed", json.dumps({"note": self.remark})), remark=sa.Column(sa.Text)
    )
    done = releases.rehearse(newer)
    assert done.exit_code == 1
    assert "the rows of 2 have note, and not remark: if a column was renamed" in done.stdout
    # Of a column that is gone, or new, nothing is told.
    releases.first.execute("ALTER TABLE placed RENAME remark TO note", "ALTER TABLE placed ADD extra int")
    for columns in ({}, {"note": sa.Column(sa.Text), "extra": sa.Column(sa.Integer)}):
        done = releases.rehearse(releases.release(lambda self: Message("o", "p", "x"), **columns))
        assert done.exit_code == 0, done.output


def test_a_new_column_has_the_value_that_old_rows_have(releases: Releases) -> None:
    releases.first.execute("ALTER TABLE placed ADD levels int[] NOT NULL DEFAULT '{1,2}'")

    def with_levels(self: Any) -> Message:
        assert self.levels == [1, 2]
        return noted(self)

    levels = sa.Column(sa.ARRAY(sa.Integer), nullable=False)
    done = releases.rehearse(releases.release(with_levels, note=sa.Column(sa.Text), levels=levels))
    assert (done.exit_code, "2 kept signals can be built" in done.stdout) == (0, True), done.output


def test_columns_of_subclasses_are_restored(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = OutboxApp(database_url)
    publisher = FakePublisher(outbox.app)
    base = {
        "kind": sa.Column(sa.Text),
        "signalbus_keep_days": 7,
        "__mapper_args__": {"polymorphic_on": "kind", "polymorphic_identity": "plain"},
    }
    parent = outbox.rabbitmq_model("Parent", lambda self: Message("o", "p", "parent"), **base)
    members = {
        "extra": sa.Column(sa.Text),
        "signalbus_message": lambda self: Message("o", "p", f"child {self.extra}"),
        "__mapper_args__": {"polymorphic_identity": "child"},
    }
    child = type("Child", (parent,), members)
    outbox.create()
    outbox.write(child, 1, extra="of it")
    assert issubclass(child, RabbitMQSignal)
    assert outbox.burst(parent, limit=10).sent == 1
    loaded = LoadedApp(outbox.app, outbox.db.signalbus)
    for module in ("contract", "sent", "shared"):
        monkeypatch.setattr(f"relay.commands.{module}.load", lambda given: loaded)
    monkeypatch.setenv("FLASK_APP", "shop:app")
    done = CliRunner().invoke(cli, ["rehearse", "--json"])
    assert json.loads(done.stdout.splitlines()[-1])["built"] == 1, done.output
    outbox.app.extensions["signalbus_rabbitmq"] = publisher
    again = CliRunner().invoke(cli, ["sent", "replay", "Parent", "1", "--yes"])
    assert again.exit_code == 0, again.output
    assert [one.body for one in publisher.broker.messages] == [b"child of it"] * 2
    publisher.close()
    outbox.close()
