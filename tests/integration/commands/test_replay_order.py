"""A replay keeps the order of each key, and holds back what is behind a signal that it cannot send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pika
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from relay.application.load import LoadedApp
from relay.cli import cli
from signalbus_core import OrderedSignal
from signalbus_core.rabbitmq import Message, RabbitMQSignal
from tests.support.outbox_app import OutboxApp


class Accounts:
    """Signals of two accounts, which were sent in one burst, though their rows lie in another order."""

    def __init__(self, url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch, **members: Any) -> None:
        self.queue = f"accounts-{uuid4()}"
        self.outbox = OutboxApp(url, SIGNALBUS_RABBITMQ_URL=amqp_url)
        self.connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
        self.channel = self.connection.channel()
        self.channel.queue_declare(self.queue)
        #: What of a note cannot be sent: "bad" has no message, "lost" no queue.
        self.failing: dict[str, str] = {}
        given = {
            "id": sa.Column(sa.Text, primary_key=True),
            "account": sa.Column(sa.Text),
            "signalbus_order_by": "account",
            "signalbus_keep_days": 7,
            "signalbus_message": lambda signal: self._message(signal),
            **members,
        }
        self.model = type("Booked", (OrderedSignal, RabbitMQSignal, self.outbox.db.Model), given)
        self.outbox.create()
        loaded = LoadedApp(self.outbox.app, self.outbox.db.signalbus)
        for module in ("sent", "shared"):
            monkeypatch.setattr(f"relay.commands.{module}.load", lambda given: loaded)
        monkeypatch.setenv("FLASK_APP", "shop:app")

    def _message(self, signal: Any) -> Message:
        match self.failing.get(signal.id):
            case "bad":
                raise ValueError("no such booking")
            case "lost":
                return Message("", f"gone-{self.queue}", signal.id)
        return Message("", self.queue, signal.id)

    def send(self, *ids: str) -> None:
        """Write signals, whose accounts are their first letters, and send them in one burst."""
        with self.outbox.app.app_context():
            for one in ids:
                self.outbox.db.session.add(self.model(id=one, account=None if one[0] == "-" else one[0]))
                self.outbox.db.session.flush()
            self.outbox.db.session.commit()
        assert self.outbox.burst(self.model, limit=100).sent == len(ids)
        assert sorted(self.taken()) == sorted(ids)
        # A row that was updated lies behind the others.
        moved = ", ".join(f"'{one}'" for one in ids[: len(ids) // 2])
        self.outbox.execute(f"UPDATE signalbus_sent SET key = key WHERE key IN ({moved})")

    def replay(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            cli, ["sent", "replay", "Booked", "--since", "1h", "--rate", "10000", "--yes", "--json", *arguments]
        )

    def taken(self) -> list[str]:
        found = []
        while True:
            method, _, body = self.channel.basic_get(self.queue, auto_ack=True)
            if method is None:
                return found
            found.append(body.decode())

    def close(self) -> None:
        self.channel.queue_delete(self.queue)
        self.connection.close()
        self.outbox.close()


@pytest.fixture(params=["block", "skip"])
def accounts(
    request: pytest.FixtureRequest, database_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Accounts]:
    accounts = Accounts(database_url, amqp_url, monkeypatch, signalbus_on_parked=request.param)
    yield accounts
    accounts.close()


def of(account: str, ids: list[str]) -> list[str]:
    return [one for one in ids if one[0] == account]


def test_replay_keeps_the_order_of_each_key(accounts: Accounts) -> None:
    first = ["a1", "b1", "a2", "-1", "a3", "b2", "a4", "-2"]
    second = ["b9", "a9", "a8", "b8"]
    accounts.send(*first)
    accounts.send(*second)
    done = accounts.replay()
    assert done.exit_code == 0, done.output
    again = accounts.taken()
    for account in "ab":
        assert of(account, again) == of(account, first + second)
    assert sorted(of("-", again)) == ["-1", "-2"]


@pytest.mark.parametrize("problem", ["bad", "lost"])
def test_what_cannot_be_replayed_holds_back_its_key(accounts: Accounts, problem: str) -> None:
    accounts.send("a1", "b1", "a2", "b2", "a3")
    accounts.send("a4", "b3")
    accounts.failing = {"a2": problem}
    done = accounts.replay()
    blocks = accounts.model.signalbus_on_parked == "block"
    again = accounts.taken()
    assert of("a", again) == (["a1"] if blocks else ["a1", "a3", "a4"])
    assert of("b", again) == ["b1", "b2", "b3"]
    counts = json.loads(done.stdout)
    assert (done.exit_code, counts["failed"], counts["stopped"]) == (1, 3 if blocks else 1, False)
    assert ("Booked a4 was not sent: a2, which comes before it in its key, was not sent" in done.stderr) is blocks


def test_replay_stops_when_its_queue_goes_away(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts.send("a1", "b1", "a2")
    monkeypatch.setattr("relay.commands.sent._require_queue", lambda loaded, queue: None)
    done = accounts.replay("--to-queue", f"gone-{accounts.queue}")
    counts = json.loads(done.stdout)
    assert (done.exit_code, counts["sent"], counts["failed"], counts["stopped"]) == (1, 0, 0, True)
    assert "Stopped at Booked a1: returned" in done.stderr
