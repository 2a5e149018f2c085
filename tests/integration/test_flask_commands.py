"""`flask signalbus`, in a process of its own, against a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support import prefork
from tests.support.waiting import eventually

APPLICATION = """
import os
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from signalbus_core import SignalBusMixin

class Database(SignalBusMixin, SQLAlchemy):
    pass

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["TEST_DATABASE_URL"]
db = Database(app)

class Apple(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    def send_signalbus_message(self):
        print("sent", self.id, flush=True)

class Bad(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    def send_signalbus_message(self):
        raise ValueError("bad day")

if "TEST_KEEP_TABLES" not in os.environ:
    with app.app_context():
        db.create_all()
"""


class Commands:
    def __init__(self, directory: Path, database_url: str) -> None:
        self.directory = directory
        (directory / "shop.py").write_text(APPLICATION)
        self.environ = os.environ | {"FLASK_APP": "shop", "TEST_DATABASE_URL": database_url}
        self.url = database_url
        self.run("signals")

    def command(self, *arguments: str) -> list[str]:
        return ["flask", "signalbus", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return prefork.run(self.command(*arguments), self.environ, self.directory)

    def write(self, table: str, *ids: int) -> None:
        self.execute(*(f"INSERT INTO {table} VALUES ({number})" for number in ids))

    def execute(self, *statements: str) -> None:
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))
        engine.dispose()


@pytest.fixture
def commands(tmp_path: Path, database_url: str) -> Commands:
    return Commands(tmp_path, database_url)


def test_signals_lists_the_models(commands: Commands) -> None:
    assert commands.run("signals").stdout.split() == ["Apple", "Bad"]


def test_pending_tells_which_models_are_paused(commands: Commands) -> None:
    reason = "moving\x1b[2J"
    commands.execute(
        "INSERT INTO signalbus_paused (table_name, model, paused_at, reason) VALUES "
        f"('apple', 'Apple', '2026-01-02 03:04:05+00', '{reason}'), ('bad', 'Bad', '2026-01-02 03:04:05+00', NULL)"
    )
    assert commands.run("pending").stdout.splitlines() == [
        "Apple  0  paused since 2026-01-02T03:04:05Z: moving [2J",
        "Bad    0  paused since 2026-01-02T03:04:05Z",
    ]
    commands.execute("DROP TABLE signalbus_paused")
    commands.environ["TEST_KEEP_TABLES"] = "yes"
    assert commands.run("pending").stdout.splitlines() == ["Apple  0", "Bad    0"]


def test_pending_counts_by_model(commands: Commands) -> None:
    commands.write("apple", 1, 2)
    assert [line.split() for line in commands.run("pending").stdout.splitlines()] == [["Apple", "2"], ["Bad", "0"]]


def test_flushmany_sends_everything_and_says_how_much(commands: Commands) -> None:
    commands.write("apple", 1, 2)
    done = commands.run("flushmany")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["sent 1", "sent 2", "2 signals sent."]


def test_flushmany_prints_nothing_when_there_is_nothing_to_send(commands: Commands) -> None:
    done = commands.run("flushmany")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_flushmany_sends_named_models_and_warns_of_wrong_name(commands: Commands) -> None:
    commands.write("apple", 1)
    commands.write("bad", 1)
    done = commands.run("flushmany", "Apple", "Nonsense")
    assert done.returncode == 0
    assert "1 signal sent." in done.stdout
    assert "Nonsense" in done.stderr


def test_flushmany_with_wrong_names_only_sends_nothing_and_fails(commands: Commands) -> None:
    commands.write("apple", 1)
    done = commands.run("flushmany", "Nonsense")
    assert done.returncode == 1
    assert "sent 1" not in done.stdout


def test_a_failing_sender_is_an_error_without_a_traceback(commands: Commands) -> None:
    commands.write("bad", 1)
    done = commands.run("flushmany")
    assert done.returncode == 1
    assert "Error: ValueError: bad day" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "soon"])
def test_a_wrong_repeat_interval_is_a_usage_error(commands: Commands, seconds: str) -> None:
    assert commands.run("flushmany", "--repeat", seconds).returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_repeat_goes_on_after_errors_and_ends_when_asked(commands: Commands, number: int) -> None:
    output = commands.directory / "output"
    commands.write("bad", 1)
    with output.open("wb") as file:
        process = prefork.start(
            commands.command("flushmany", "-r", "0.2"), commands.environ, commands.directory, file, file
        )
        try:
            eventually(lambda: "A round failed" in output.read_text())
            commands.write("apple", 5)
            eventually(lambda: "sent 5" in output.read_text())
            process.send_signal(number)
            assert process.wait(5) == 0
        finally:
            process.kill()
            process.wait()
