"""Keys of all kinds, and whatever a person may type, through the commands about single signals and models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.cli import cli
from relay.loading import LoadedApp
from signalbus_core import SignalBusMixin

KEYS: dict[str, dict[str, Any]] = {
    "Number": {"id": sa.Integer()},
    "Word": {"id": sa.Text()},
    "Unique": {"id": sa.Uuid()},
    "Moment": {"id": sa.DateTime(timezone=True)},
    "Pair": {"tenant": sa.Integer(), "name": sa.String(20)},
}


class Database(SignalBusMixin, SQLAlchemy):
    pass


@pytest.fixture
def loaded(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadedApp]:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = Database(app)
    models = [
        type(name, (db.Model,), {part: sa.Column(kind, primary_key=True) for part, kind in key.items()} | SENDS)
        for name, key in KEYS.items()
    ]
    number, word, unique, moment, pair = models
    with app.app_context():
        db.create_all()
        db.session.add_all(
            [
                *(number(id=n) for n in range(1, 4)),
                *(word(id=text) for text in ("42", "a'b", "é", "")),
                unique(id=UUID(int=1)),
                moment(id=datetime(2026, 1, 2, 3, 4, 5, 678, timezone.utc)),
                *(pair(tenant=n, name=text) for n in (1, 2) for text in ("a", "b")),
            ]
        )
        db.session.commit()
    found = LoadedApp(app, db.signalbus)
    for module in ("explain", "parked", "pauses", "pending"):
        monkeypatch.setattr(f"relay.commands.{module}.load", lambda given: found)
    yield found
    with app.app_context():
        db.engine.dispose()


SENDS = {"send_signalbus_message": lambda self: None}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize(
    ("model", "key", "before"),
    [
        ("Number", "3", 2),
        ("Word", "42", 1),
        ("Word", "a'b", None),
        ("Word", "", 0),
        ("Unique", "00000000-0000-0000-0000-000000000001", 0),
        ("Moment", "2026-01-02T03:04:05.000678Z", 0),
        ("Pair", '["2", "a"]', 2),
    ],
)
def test_keys_of_all_kinds_are_found(loaded: LoadedApp, model: str, key: str, before: int | None) -> None:
    done = run("explain", model, key, "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["state"], found["key"]) == ("pending", key)
    if before is not None:
        assert found["before"] == before


@pytest.mark.parametrize(
    ("model", "key", "code"),
    [
        ("Number", "99", 1),
        ("Number", "99999999999999999999", 2),
        ("Number", " 1", 0),
        ("Number", "", 2),
        ("Word", "none", 1),
        ("Unique", "1", 2),
        ("Moment", "soon", 2),
        ("Pair", "1", 2),
        ("Pair", '["1"]', 2),
        ("Pair", '{"tenant": 1}', 2),
        ("Pair", '["one", "a"]', 2),
        ("Pair", '["1", "c"]', 1),
    ],
)
def test_keys_that_are_none_are_wrong_usage_and_others_are_not_there(
    loaded: LoadedApp, model: str, key: str, code: int
) -> None:
    assert run("explain", model, key).exit_code == code


#: Whatever can be an argument, and here even a NUL.
CHARACTERS = st.one_of(
    st.characters(exclude_categories=()), st.sampled_from("\0\ud800"), st.sampled_from("'\"\\%:-[{\n")
)
ANYTHING = st.text(CHARACTERS, max_size=9)
MODELS = st.one_of(st.sampled_from(list(KEYS)), st.sampled_from([*KEYS, "number", "Number "]), ANYTHING)
TYPED = st.one_of(ANYTHING, ANYTHING, st.integers().map(str), st.lists(ANYTHING, max_size=3).map(json.dumps))
COMMANDS = st.one_of(
    st.tuples(st.just("explain"), MODELS, TYPED),
    st.tuples(st.just("explain"), MODELS, TYPED, st.just("--json")),
    st.tuples(st.just("parked"), st.sampled_from(["show", "retry", "discard"]), MODELS, TYPED),
    st.tuples(st.just("pause"), MODELS, st.just("--reason"), ANYTHING),
    st.tuples(st.just("resume"), MODELS),
    st.tuples(st.just("pending"), MODELS),
    st.tuples(st.just("pending"), st.just("--max-lag"), ANYTHING),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=COMMANDS)
@example(arguments=("explain", "Word", "\ud800"))
@example(arguments=("parked", "show", "Number", "\0"))
def test_whatever_is_typed_ends_with_a_code_and_never_with_a_traceback(
    loaded: LoadedApp, arguments: Sequence[str]
) -> None:
    done = run(*arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code in (0, 1, 2)
    assert "Traceback" not in done.output
