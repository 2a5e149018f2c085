"""A signal whose send method meets an outage of its own: the real command, and what the others notice of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.processes import RelayProcess
from tests.support.waiting import eventually

APPLICATION = """
import os
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from signalbus_core import SignalBusMixin


class Database(SignalBusMixin, SQLAlchemy):
    pass


db = Database()


class Order(db.Model):
    signalbus_burst_count = 50
    id = db.Column(db.Integer, primary_key=True)
    note = db.Column(db.Text)

    def send_signalbus_message(self):
        Order.send_signalbus_messages([self])

    @classmethod
    def send_signalbus_messages(cls, signals):
        for signal in signals:
            with open("away" if signal.note == "away" else "sent", "a") as file:
                file.write(f"{signal.id}\\n")
            if signal.note == "away":
                raise ConnectionRefusedError("nothing listens there")


def create_app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["TEST_DATABASE_URL"]
    db.init_app(app)
    with app.app_context():
        db.create_all()
    return app
"""


class Outbox:
    """The application, its table, and what its send method has written down."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self._directory = directory
        self._environ = {"TEST_DATABASE_URL": database_url}
        (directory / "outbox.py").write_text(APPLICATION)
        self.engine = sa.create_engine(database_url)
        self.execute('CREATE TABLE "order" (id serial PRIMARY KEY, note text)')

    def execute(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def left(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.text('SELECT note FROM "order"')))

    def lines(self, name: str) -> list[str]:
        path = self._directory / name
        return path.read_text().split() if path.exists() else []

    def relay(self, *arguments: str) -> RelayProcess:
        return RelayProcess(
            self._directory,
            *("--app", "outbox:create_app", "--poll-interval", "0.2", *arguments),
            environ=self._environ,
        )


@pytest.fixture
def outbox(tmp_path: Path, database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path, database_url)
    yield outbox
    outbox.engine.dispose()


def test_until_empty_does_not_call_a_table_empty_that_is_not(outbox: Outbox) -> None:
    outbox.execute("""INSERT INTO "order" (note) VALUES ('away'), ('good')""")
    with outbox.relay("--until-empty", "--drain-timeout", "4") as relay:
        assert relay.wait(90) == 1
        assert "signals are left" in relay.logs("stopping")[0]["message"]
    assert outbox.left() == ["away"]


def test_until_empty_waits_for_suspect_that_can_be_sent(outbox: Outbox) -> None:
    outbox.execute("""INSERT INTO "order" (note) VALUES ('away')""")
    with outbox.relay("--until-empty") as relay:
        eventually(lambda: outbox.lines("away"), 30)
        outbox.execute("""UPDATE "order" SET note = 'good'""")
        assert relay.wait(90) == 0
    assert outbox.left() == []


def test_an_outage_of_one_signal_is_one_trouble_repeats_no_other_and_ends_with_the_signal(outbox: Outbox) -> None:
    outbox.execute("""INSERT INTO "order" (note) VALUES ('away')""")
    with outbox.relay() as relay:
        relay.wait_for_log("model_failing")
        tries = len(outbox.lines("away"))
        written = 0
        while len(outbox.lines("away")) < tries + 2:
            written += 1
            # Before it and after it in the order of keys.
            outbox.execute(f"""INSERT INTO "order" VALUES ({-written}, 'good'), ({1000 + written}, 'good')""")
            eventually(lambda: outbox.left() == ["away"], 60)
        assert not relay.logs("model_recovered")
        outbox.execute("""UPDATE "order" SET note = 'good'""")
        eventually(lambda: outbox.left() == [], 60)
        eventually(lambda: relay.logs("model_recovered"), 30)
    sent = outbox.lines("sent")
    assert len(sent) > 2
    assert len(sent) == len(set(sent))
