"""The command ``signalbus-relay check``: its areas, its output, its exit code."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli import cli

SHOP = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from signalbus_core import SignalBusMixin
from signalbus_core.rabbitmq import RabbitMQSignal

class Database(SignalBusMixin, SQLAlchemy):
    pass

db = Database()

class Order(RabbitMQSignal, db.Model):
    id = db.Column(db.Integer, primary_key=True)
    def signalbus_message(self): ...

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+psycopg2://someone:geheim@127.0.0.1:1/none"
app.config["SIGNALBUS_RABBITMQ_URL"] = "amqp://someone:geheim@127.0.0.1:1/"
db.init_app(app)
"""

OFFLINE = ("--only", "config", "--only", "models")


def check(directory: Path, source: str, *arguments: str) -> Result:
    name = f"shop_{uuid.uuid4().hex[:8]}"
    (directory / f"{name}.py").write_text(source)
    app = str(directory / f"{name}.py")
    done = CliRunner().invoke(cli, ["check", "--app", app, *arguments], obj={}, catch_exceptions=False)
    assert "geheim" not in done.output
    return done


def test_configuration_and_models_are_checked_without_servers(tmp_path: Path) -> None:
    done = check(tmp_path, SHOP, *OFFLINE)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "✓ config    nothing is wrong.",
        "✓ models    nothing is wrong.",
    ]


def test_what_is_wrong_is_told_with_its_remedy_and_its_code(tmp_path: Path) -> None:
    done = check(tmp_path, SHOP.replace("    def signalbus_message(self): ...", ""), "--only", "models")
    assert done.exit_code == 1
    assert done.stdout == (
        "✗ models    Order: it does not define signalbus_message. "
        "Define signalbus_message(self), which returns a Message. [message-undefined]\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("postgresql+psycopg2://", "postgres://", "app-not-loaded"),
        ("app = Flask(__name__)", "raise ValueError('geheim:a@b')", "app-not-loaded"),
        ("postgresql+psycopg2://someone:geheim@127.0.0.1:1/none", "sqlite://", "driver-unsupported"),
        ("    def signalbus_message(self): ...", "", "message-undefined"),
        ("(RabbitMQSignal, db.Model)", "(db.Model)", "app-without-models"),
        ("    id =", "    signalbus_burst_count = 0\n    id =", "model-contract"),
        ("amqp://", "http://", "broker-url"),
    ],
)
def test_what_is_wrong_in_the_application_is_found(tmp_path: Path, old: str, new: str, code: str) -> None:
    assert old in SHOP
    done = check(tmp_path, SHOP.replace(old, new.replace("geheim", "oops")), *OFFLINE, "--json")
    assert done.exit_code == 1
    assert code in {json.loads(line)["code"] for line in done.stdout.splitlines()}


def test_a_finding_is_an_object_with_texts(tmp_path: Path) -> None:
    done = check(tmp_path, SHOP.replace("amqp://", "http://"), "--only", "config", "--json")
    [found] = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(found) == ["code", "area", "level", "subject", "problem", "remedy"]
    assert (found["code"], found["level"]) == ("broker-url", "error")


def test_url_unknown_to_sqlalchemy_told_with_what_to_write(tmp_path: Path) -> None:
    source = (
        SHOP.replace("postgresql+psycopg2://", "postgres://").replace("db.init_app(app)", "").replace("app", "shop")
    )
    source += "\ndef create_app():\n    db.init_app(shop)\n    return shop\n"
    [found] = [json.loads(line) for line in check(tmp_path, source, "--only", "config", "--json").stdout.splitlines()]
    assert found["code"] == "app-not-loaded"
    assert found["remedy"] == "Begin the database's URL with postgresql+psycopg2://."


def test_what_is_not_looked_at_is_not_called_fine(tmp_path: Path) -> None:
    other = SHOP.replace("postgresql+psycopg2://someone:geheim@127.0.0.1:1/none", "sqlite://").replace(
        "(RabbitMQSignal, db.Model):", "(db.Model):\n    def send_signalbus_message(self): ..."
    )
    done = check(tmp_path, other, "--skip", "versions", "--skip", "config", "--skip", "models", "--json")
    assert {json.loads(line)["code"] for line in done.stdout.splitlines()} == {"area-skipped"}
    assert len(done.stdout.splitlines()) == 6
    done = check(tmp_path, SHOP.replace("amqp://", "http://"), "--only", "broker", "--json")
    assert [json.loads(line)["code"] for line in done.stdout.splitlines()] == ["area-unreachable"]


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = check(tmp_path, SHOP, "--only", "models", "--signals", "Invoice", "--json")
    [found] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.exit_code, found["code"]) == (1, "signals-unknown")
    assert check(tmp_path, SHOP, "--only", "models", "--signals", "Order").exit_code == 0


def test_a_warning_is_wrong_only_when_it_is_asked_to_be(tmp_path: Path) -> None:
    # Said after the engine was made, so that no other driver is needed.
    source = f'{SHOP}\napp.config["SQLALCHEMY_DATABASE_URI"] = "postgresql://localhost/none"\n'
    done = check(tmp_path, source, "--only", "config", "--json")
    assert [json.loads(line)["code"] for line in done.stdout.splitlines()] == ["uri-driver"]
    assert done.exit_code == 0
    assert check(tmp_path, source, "--only", "config", "--strict").exit_code == 1


def test_servers_that_are_away_leave_the_other_areas_in_peace(tmp_path: Path) -> None:
    done = check(tmp_path, SHOP, "--json", "--skip", "versions", "--skip", "bloat")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    levels = [(one["area"], one["level"]) for one in findings]
    assert levels == [("config", "ok"), ("models", "ok"), ("session", "error"), ("broker", "error")]
    assert findings[2]["problem"].endswith("; not checked therefore: tables, signals, doorbell")
    assert done.exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [(), ("--only", "nonsense"), ("--app", "shop", "--only", "config", "--skip", "config"), ("--workers", "many")],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, ["check", *arguments], obj={}).exit_code == 2
