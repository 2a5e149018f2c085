"""`signalbus-relay init`: what it writes runs, and nothing that is there is changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from relay.cli import cli
from tests.deploy.tools import compose_program, output_of, program
from tests.support import prefork
from tests.support.processes import COMMAND

PROGRAMS = Path(sys.executable).parent
FILES = {
    "Dockerfile",
    "alembic.ini",
    "docker-compose.yml",
    "migrations/env.py",
    "migrations/script.py.mako",
    "migrations/versions/0001_signals.py",
    "requirements.txt",
    "signalbus.rules.yml",
}


def init(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["init", *map(str, arguments)], input=typed)


def written(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_three_answers_are_asked_for_and_all_files_written(tmp_path: Path) -> None:
    done = init("--directory", tmp_path / "new", typed="web_shop\nOrderPlaced\norders\n")
    assert done.exit_code == 0, done.output
    assert re.findall(r"\[(\w+)\]:", done.output) == ["shop", "OrderPlaced", "orders"]
    assert written(tmp_path / "new") == FILES | {"web_shop.py"}


def test_what_was_written_sends_a_signal_to_its_queue(tmp_path: Path, database_url: str, empty_amqp_url: str) -> None:
    module = f"shop_{uuid4().hex[:8]}"
    done = init("--module", module, "--signal", "OrderPlaced", "--exchange", module, "--directory", tmp_path)
    assert done.exit_code == 0, done.output
    environ = os.environ | {"DATABASE_URL": database_url, "RABBITMQ_URL": empty_amqp_url}

    def run(name: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        command = [COMMAND if name == "signalbus-relay" else str(PROGRAMS / name), *arguments]
        result = prefork.run(command, environ, tmp_path)
        assert result.returncode in codes, f"{name} {arguments}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    run("alembic", "upgrade", "head")
    run("alembic", "check")
    # Autogenerate finds the doorbell that somebody has dropped.
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER signalbus_doorbell ON order_placed"))
    run("alembic", "revision", "--autogenerate", "-m", "second")
    run("alembic", "upgrade", "head")
    run("alembic", "check")
    engine.dispose()
    run("flask", "--app", module, "declare")
    run("flask", "--app", module, "announce", '{"number": 1}')
    # The test's own servers have findings.
    checked = run("signalbus-relay", "check", "--app", f"{module}:create_app", codes=(0, 1))
    for area in ("models", "tables", "signals", "bloat", "doorbell"):
        assert re.search(rf"^✓ {area} +nothing is wrong", checked, re.MULTILINE), checked
    run("signalbus-relay", "run", "--app", f"{module}:create_app", "--until-empty", "--http", "off")
    assert re.fullmatch(r'[0-9a-f-]{36}: \{"number": 1\}', run("flask", "--app", module, "receive").strip())
    run("alembic", "downgrade", "base")


def test_the_compose_file_and_the_rules_are_valid(tmp_path: Path) -> None:
    # A word that YAML would read as no text.
    assert init("--module", "yes", "--signal", "Paid", "--exchange", "a.b", "--directory", tmp_path).exit_code == 0
    project = output_of(compose_program(), "--file", str(tmp_path / "docker-compose.yml"), "config")
    assert "SIGNALBUS_RELAY_APP: yes:create_app" in project
    assert "SUCCESS" in output_of(program("promtool"), "check", "rules", str(tmp_path / "signalbus.rules.yml"))


@pytest.mark.parametrize("there", ["Dockerfile", "migrations/env.py", "shop.py"])
def test_a_file_that_is_there_is_kept_and_nothing_written(tmp_path: Path, there: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    done = init("--directory", tmp_path, typed="\n\n\n")
    assert done.exit_code == 1
    assert there in done.output
    assert written(tmp_path) == {there}
    assert (tmp_path / there).read_text() == "mine"


def test_a_file_that_cannot_be_written_takes_back_the_others(tmp_path: Path) -> None:
    (tmp_path / "migrations").write_text("no directory")
    done = init("--directory", tmp_path, typed="\n\n\n")
    assert done.exit_code == 1
    assert written(tmp_path) == {"migrations"}


def test_a_link_that_leads_nowhere_counts_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "shop.py").symlink_to("elsewhere.py")
    assert init("--directory", tmp_path, typed="\n\n\n").exit_code == 1
    assert not (tmp_path / "elsewhere.py").exists()


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--module", "class", "word of Python"),
        ("--module", "a-b", "lower-case"),
        ("--module", "x\nimport os", "lower-case"),
        ("--module", "queue", "hide"),
        ("--module", "flask", "hide"),
        ("--module", "relay", "hide"),
        ("--module", "migrations", "hide"),
        ("--signal", "orderPlaced", "capital"),
        ("--signal", "Flask", "something else"),
        ("--signal", "SignalbusParked", "belong to others"),
        ("--signal", "O" + "rder" * 16, "63"),
        ("--exchange", "", "letters"),
        ("--exchange", 'a"b', "letters"),
        ("--exchange", "amq.topic", "broker"),
        ("--exchange", "e" * 256, "255"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, option: str, value: str, reason: str) -> None:
    names = {"--module": "shop", "--signal": "OrderPlaced", "--exchange": "orders", option: value}
    done = init("--directory", tmp_path, *(word for pair in names.items() for word in pair))
    assert done.exit_code == 2
    assert reason in done.output
    assert written(tmp_path) == set()


@pytest.mark.parametrize(
    ("signal", "table", "routing_key"),
    [
        ("Paid", "paid", "paid"),
        ("HTTPCall", "http_call", "http.call"),
        ("Order2Placed", "order2_placed", "order2.placed"),
    ],
)
def test_table_and_routing_key_are_named_after_the_signal(
    tmp_path: Path, signal: str, table: str, routing_key: str
) -> None:
    init("--module", "shop", "--signal", signal, "--exchange", "orders", "--directory", tmp_path)
    text = (tmp_path / "shop.py").read_text()
    assert f'__tablename__ = "{table}"' in text
    assert f'signalbus_routing_key = "{routing_key}"' in text


def test_what_is_written_passes_the_linter_of_this_project(tmp_path: Path) -> None:
    init("--directory", tmp_path, typed="\n\n\n")
    command = [program("ruff"), "check", "--isolated", "--select", "E,F,B", "--line-length", "120", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
