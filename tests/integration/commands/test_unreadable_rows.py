"""Rows that a model's columns cannot take: what a person asks and does about them works all the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.application.load import LoadedApp
from relay.cli import cli
from signalbus_core import SignalBusMixin
from signalbus_core.rabbitmq import Message, RabbitMQSignal


class Database(SignalBusMixin, SQLAlchemy):
    pass


@pytest.fixture
def loaded(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadedApp]:
    """An application with one signal, of a year that Python does not know, which is parked."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = Database(app)

    class Appointment(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(sa.Integer, primary_key=True)
        created_at = db.Column(sa.DateTime(timezone=True))
        body = db.Column(sa.LargeBinary)

        def signalbus_message(self) -> Message:
            return Message("", "", b"")

    with app.app_context():
        db.create_all()
        db.session.execute(sa.text("INSERT INTO appointment VALUES (1, '20000-01-01T00:00Z', 'tea')"))
        values = "('appointment', '1', 'Appointment', 3, now(), now(), NULL, 'invalid', 'its row cannot be loaded')"
        db.session.execute(sa.text(f"INSERT INTO signalbus_parked VALUES {values}"))
        db.session.commit()
    found = LoadedApp(app, db.signalbus)
    for module in ("explain", "pending", "shared"):
        monkeypatch.setattr(f"relay.commands.{module}.load", lambda given: found)
    yield found
    with app.app_context():
        db.engine.dispose()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_such_a_signal_is_explained(loaded: LoadedApp) -> None:
    done = run("explain", "Appointment", "1", "--json")
    assert done.exit_code == 0, done.exception
    story = json.loads(done.stdout)
    assert story["state"] == "parked"
    assert "Its messages cannot be made: its row cannot be loaded (ValueError)" in story["story"]
    assert "20000" not in done.output


def test_such_signal_is_discarded_and_its_row_recorded(loaded: LoadedApp, tmp_path: Path) -> None:
    record = tmp_path / "discarded.jsonl"
    done = run("parked", "discard", "Appointment", "1", "--yes", "--record", str(record))
    assert done.exit_code == 0, done.exception
    row = json.loads(record.read_text())["row"]
    assert row["created_at"].startswith("20000-01-01")
    assert (row["id"], row["body"]) == ("1", "\\x746561")
    with loaded.app.app_context():
        assert sum(loaded.bus.pending().values()) == 0


def test_a_record_may_be_what_is_no_file_of_a_disk(loaded: LoadedApp, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "record")
    reader = os.open(tmp_path / "record", os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = run("parked", "discard", "Appointment", "1", "--yes", "--record", str(tmp_path / "record"))
        assert done.exit_code == 0, done.output
        assert json.loads(os.read(reader, 10_000))["key"] == "1"
    finally:
        os.close(reader)


def test_only_its_owner_may_read_record_of_what_was_discarded(loaded: LoadedApp, tmp_path: Path) -> None:
    record = tmp_path / "discarded.jsonl"
    assert run("parked", "discard", "Appointment", "1", "--yes", "--record", str(record)).exit_code == 0
    assert record.stat().st_mode & 0o077 == 0
