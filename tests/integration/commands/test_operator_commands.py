"""The commands of whoever operates relays: what they tell and change, keys of all kinds, and whatever may be typed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.application.load import LoadedApp
from relay.cli import cli
from signalbus_core import SignalBusMixin
from tests.support.fuzzing import FACTOR

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
    for module in ("explain", "pending", "shared"):
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
        ("Moment", "20000-01-01", 2),
        ("Pair", "1", 2),
        ("Pair", '["1"]', 2),
        ("Pair", '{"tenant": 1}', 2),
        ("Pair", '["one", "a"]', 2),
        ("Pair", '["1", "c"]', 1),
    ],
)
def test_keys_none_are_wrong_usage_and_others_are_not_there(loaded: LoadedApp, model: str, key: str, code: int) -> None:
    assert run("explain", model, key).exit_code == code


def test_what_was_retried_and_discarded_is_told_as_json(loaded: LoadedApp, tmp_path: Path) -> None:
    columns = "table_name, key, model, attempts, first_failed_at, last_failed_at, next_try_at, error_class, error_text"
    rows = ", ".join(f"('number', '{n}', 'Number', 1, now(), now(), NULL, 'error', 'x')" for n in (1, 2, 3))
    execute(loaded, f"INSERT INTO signalbus_parked ({columns}) VALUES {rows}")

    def told(*arguments: str) -> list[Any]:
        done = run("parked", *arguments, "--json")
        assert (done.exit_code, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert told("retry", "--all") == [{"model": None, "key": None, "retried": 3}]
    assert told("retry", "Number", "2") == [{"model": "Number", "key": "2", "retried": 1}]
    row, done = told("discard", "Number", "1", "--yes")
    assert (row["row"], done) == ({"id": 1}, {"model": "Number", "key": "1", "discarded": 1})
    execute(loaded, "UPDATE signalbus_parked SET next_try_at = NULL")
    [done] = told("discard", "Number", "--all", "--yes", "--record", str(tmp_path / "record"))
    assert done == {"model": "Number", "key": None, "discarded": 2}


def execute(loaded: LoadedApp, *statements: str) -> None:
    with loaded.app.app_context(), loaded.bus.db.engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def told(*arguments: str, code: int = 0) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == code
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def set_aside(loaded: LoadedApp, key: int, next_try: str) -> None:
    execute(
        loaded,
        f"INSERT INTO signalbus_parked VALUES ('number', '{key}', 'Number', 3, now(), now(), {next_try}, 'returned', "
        "'no queue is bound')",
    )


def test_signals_set_aside_and_paused_tell_why_and_what_to_do(loaded: LoadedApp) -> None:
    set_aside(loaded, 1, "NULL")
    set_aside(loaded, 2, "now() + interval '1 hour'")
    parked = told("explain", "Number", "1")
    assert (parked["state"], parked["attempts"]) == ("parked", 3)
    assert any("returned: no queue is bound" in sentence for sentence in parked["story"])
    assert "signalbus-relay parked retry Number 1" in parked["to_do"]
    waiting = told("explain", "Number", "2")
    assert (waiting["state"], waiting["next_try_at"] is None) == ("waiting", False)
    assert "parked retry Number 2" in waiting["to_do"]

    run("pause", "Number", "--reason", "moving the queue")
    paused = told("explain", "Number", "3")
    assert (paused["state"], paused["before"]) == ("paused", 0)
    assert any("moving the queue" in sentence for sentence in paused["story"])
    assert paused["to_do"] == "`signalbus-relay resume Number` when it may be sent."
    assert "signalbus-relay resume Number" in told("explain", "Number", "1")["to_do"]


def test_a_model_whose_every_signal_is_set_aside_does_not_flow(loaded: LoadedApp) -> None:
    set_aside(loaded, 1, "NULL")
    set_aside(loaded, 2, "now() + interval '1 hour'")
    [line] = [line for line in run("pending", "Number").stdout.splitlines() if line.startswith("Number")]
    assert "blocked: none of the pending signals is being sent, and no session of a relay" in line
    set_aside(loaded, 3, "NULL")
    [line] = [line for line in run("pending", "Number").stdout.splitlines() if line.startswith("Number")]
    assert line.endswith("(3 of 3 signals have failed)")


def test_a_locked_table_is_unknown_and_its_holder_is_named(loaded: LoadedApp) -> None:
    with loaded.app.app_context(), loaded.bus.db.engine.begin() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        connection.execute(sa.text("LOCK TABLE number IN ACCESS EXCLUSIVE MODE"))
        shown = json.loads(run("pending", "Number", "--json").stdout)
    assert (shown["state"], shown["signals"], shown["waiting"]) == ("blocked", None, None)
    assert f"locked by the session with pid {pid}" in shown["reason"]


def test_signals_that_leave_the_table_flow(loaded: LoadedApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_is_sent(_event: object, _seconds: float) -> None:
        execute(loaded, "DELETE FROM number WHERE id = 1")

    monkeypatch.setattr("relay.operations.backlog.Event.wait", one_is_sent)
    assert json.loads(run("pending", "Number", "--json").stdout)["state"] == "flowing"
    execute(loaded, "DELETE FROM number")
    assert json.loads(run("pending", "Number", "--json").stdout)["state"] == "idle"


def test_signal_not_there_ends_with_1_and_what_is_known(loaded: LoadedApp) -> None:
    execute(loaded, "DELETE FROM number WHERE id = 2", "SELECT nextval(pg_get_serial_sequence('number', 'id'))")
    gone = told("explain", "Number", "1")
    assert gone["state"] == "pending"
    execute(loaded, "DELETE FROM number WHERE id = 1")
    gone = told("explain", "Number", "1", code=1)
    assert gone["state"] == "absent"
    assert "it was sent and deleted, or discarded, or" in gone["story"][0]
    never = told("explain", "Number", "99", code=1)
    assert never["story"][0].endswith("no signal has been given this key yet.")


def test_login_that_may_only_read_is_told_all_but_who_holds_lock(loaded: LoadedApp) -> None:
    with loaded.app.app_context():
        engine = loaded.bus.db.engine
    role = f"reading_{engine.url.database}"
    execute(loaded, f"CREATE ROLE {role}", f"GRANT SELECT ON number TO {role}")
    engine.dispose()

    @sa.event.listens_for(engine, "connect")
    def become(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {role}")
        connection.commit()

    assert told("explain", "Number", "3")["state"] == "pending"
    refused = run("pause", "Number")
    assert refused.exit_code == 1
    assert "GRANT SELECT, INSERT, DELETE ON signalbus_paused" in refused.stderr
    assert "ddl paused" not in refused.stderr
    sa.event.remove(engine, "connect", become)
    engine.dispose()
    execute(loaded, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_pausing_what_is_paused_and_resuming_what_is_not_is_said_and_no_error(loaded: LoadedApp) -> None:
    assert told("resume", "Word") == {"model": "Word", "paused": False, "changed": False}
    assert told("pause", "Word") == {"model": "Word", "paused": True, "changed": True}
    assert told("pause", "Word") == {"model": "Word", "paused": True, "changed": False}
    assert run("pause", "Word").stdout == "Word was paused already; its first reason stands.\n"
    assert told("resume", "Word") == {"model": "Word", "paused": False, "changed": True}
    assert run("resume", "--all").stdout == "No model is paused.\n"


def test_unreadable_table_hides_no_other_and_ends_with_1(loaded: LoadedApp) -> None:
    execute(loaded, "DROP TABLE word", "DROP TABLE signalbus_parked")
    done = run("pending")
    assert done.exit_code == 1
    assert 'relation "word" does not exist' in done.stdout
    assert "Number  3        ?       ?        ?       blocked: none of the pending signals is being sent" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["pause", "Nonsense"], 1, "Known are: Moment, Number, Pair, Unique, Word"),
        (["pause", "Word"], 1, "signalbus-relay ddl paused"),
        (["pause"], 2, "MODEL"),
        (["resume", "Word"], 1, "signalbus-relay ddl paused"),
        (["resume"], 2, "Give a MODEL, or --all"),
        (["resume", "Word", "--all"], 2, "Give a MODEL, or --all"),
        (["pending", "Nonsense"], 1, "Known are: Moment, Number"),
        (["pending", "--max-lag", "soon"], 2, "'soon' is not a valid float"),
        (["explain", "Nonsense", "1"], 1, "Known are: Moment, Number"),
        (["explain", "Number", "one"], 2, "'one' is no key of Number, whose key is id (INTEGER)"),
        (["explain", "Number"], 2, "KEY"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_reason(
    loaded: LoadedApp, arguments: list[str], code: int, text: str
) -> None:
    execute(loaded, "DROP TABLE signalbus_paused")
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert text in done.stderr


@pytest.mark.parametrize("name", ["pending", "explain", "pause", "resume", "parked list", "ddl paused"])
def test_the_help_of_each_command_has_an_example(name: str) -> None:
    assert f"Example: signalbus-relay {name}" in run(*name.split(), "--help").stdout


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


@settings(max_examples=40 * FACTOR, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=COMMANDS)
@example(arguments=("explain", "Word", "\ud800"))
@example(arguments=("parked", "show", "Number", "\0"))
def test_whatever_is_typed_ends_with_code_without_traceback(loaded: LoadedApp, arguments: Sequence[str]) -> None:
    done = run(*arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code in (0, 1, 2)
    assert "Traceback" not in done.output
