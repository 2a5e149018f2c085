"""Connection parameters and pools with which a relay could never work are refused before it begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine
from sqlalchemy.pool import AssertionPool, NullPool, Pool, QueuePool, StaticPool

from relay.application.connection_parameters import rejected_parameters
from relay.application.load import LoadingError
from relay.application.pools import pool_problem, refuse_unfit_engines, spare_connections
from relay.cli import cli
from relay.config.values import database_url

DRIVERS = pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])

REJECTED = [
    ("schema=public", "schema"),
    ("sslmode=nosuch", "nosuch"),
    ("target_session_attrs=nosuch", "nosuch"),
    ("port=70000", "70000"),
    ("service=nosuch", "nosuch"),
    ("connect_timeout=soon", "connect_timeout"),
    ("keepalives_idle=soon", "keepalives_idle"),
    ("hostaddr=127.0.0.1,127.0.0.2", "hostaddr"),
    ("sslmode=verify-full&sslrootcert=/nowhere", "sslrootcert"),
]


@DRIVERS
@pytest.mark.parametrize(("query", "word"), REJECTED)
def test_what_client_library_rejects_is_found_without_a_server(driver: str, query: str, word: str) -> None:
    engine = create_engine(f"postgresql+{driver}://u:secret@127.0.0.1:1/d?{query}")
    why = rejected_parameters(engine)
    assert why is not None
    assert word in why
    assert "secret" not in why


@DRIVERS
@pytest.mark.parametrize(
    "rest",
    [
        "u:p@127.0.0.1:1/d",
        "u:p@/d?host=a:1&host=b:2",
        "u:p@/d?host=a:1,b:2",
        "u:p@h/d?hostaddr=127.0.0.1",
        "/d?host=/run/postgresql&application_name=x&options=-c%20search_path%3Dx",
        "u:p@h/d?sslmode=require&sslrootcert=/nowhere",
        "",
    ],
)
def test_what_depends_on_a_server_is_left_to_it(driver: str, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # It must not lead to a server either.
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    assert rejected_parameters(create_engine(f"postgresql+{driver}://{rest}")) is None


@pytest.mark.parametrize("query", ["schema=public", "sslmode=nosuch", "target_session_attrs=nosuch"])
def test_parameters_beside_several_hosts_are_checked_too(query: str) -> None:
    engine = create_engine(database_url(f"postgresql://127.0.0.1:1,127.0.0.1:2/d?{query}"))
    assert query.partition("=")[0 if "schema" in query else 2] in str(rejected_parameters(engine))
    assert rejected_parameters(create_engine(database_url("postgresql://127.0.0.1:1,127.0.0.1:2/d"))) is None


def test_a_variable_of_libpq_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "nosuch")
    assert "nosuch" in str(rejected_parameters(create_engine("postgresql+psycopg2://127.0.0.1:1/d")))


def test_application_that_connects_in_its_own_way_is_left_alone() -> None:
    engine = create_engine("postgresql+psycopg2://?schema=x", creator=lambda: 1 / 0)
    assert rejected_parameters(engine) is None
    assert rejected_parameters(create_engine("sqlite://")) is None


@pytest.mark.parametrize(
    ("pool", "options", "workers", "problem"),
    [
        (QueuePool, {}, 13, None),
        (QueuePool, {}, 20, "has 15 connections, and a relay of 20 workers needs 22"),
        (QueuePool, {"pool_size": 22, "max_overflow": 0}, 20, None),
        (QueuePool, {"pool_size": 0}, 60, None),
        (QueuePool, {"max_overflow": -1}, 60, None),
        (NullPool, {}, 60, None),
        (StaticPool, {}, 1, "StaticPool has one connection"),
        (AssertionPool, {}, 1, "AssertionPool has one connection"),
    ],
)
def test_a_pool_has_a_connection_for_each_worker(
    pool: type[Pool], options: dict[str, int], workers: int, problem: str | None
) -> None:
    engine = create_engine("postgresql+psycopg2://127.0.0.1:1/d", poolclass=pool, **options)
    found = pool_problem(engine, workers)
    if problem is None:
        assert found is None
    else:
        assert found is not None
        assert problem in found[0]
        assert f"pool_size to {workers + 2}" in found[1]


@pytest.mark.parametrize(
    ("pool", "options", "spares"),
    [(QueuePool, {}, 11), (QueuePool, {"pool_size": 4, "max_overflow": 0}, 0), (NullPool, {}, sys.maxsize)],
)
def test_spare_workers_have_connections_too(pool: type[Pool], options: dict[str, int], spares: int) -> None:
    engine = create_engine("postgresql+psycopg2://127.0.0.1:1/d", poolclass=pool, **options)
    assert spare_connections([engine], 2) == spares


SHOP = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from signalbus_core import SignalBusMixin

class Database(SignalBusMixin, SQLAlchemy):
    pass

db = Database()

class Order(db.Model):
    __bind_key__ = "other"
    id = db.Column(db.Integer, primary_key=True)
    def send_signalbus_message(self): ...

app = Flask(__name__)
app.config["SQLALCHEMY_BINDS"] = {"other": "postgresql+psycopg2://u:secret@127.0.0.1:1/none?QUERY"}
db.init_app(app)
"""


def run(directory: Path, query: str, *arguments: str) -> Result:
    source = directory / f"shop_{directory.name}.py"
    source.write_text(SHOP.replace("QUERY", query))
    sys.modules.pop(source.stem, None)
    done = CliRunner().invoke(cli, [*arguments, "--app", str(source)], env={"DATABASE_URL": "postgresql+psycopg://h/d"})
    assert "secret" not in done.output
    return done


@pytest.mark.parametrize("command", [("run", "--http", "off"), ("pending",), ("parked", "list")])
def test_rejected_parameters_end_every_command_at_once(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(tmp_path, "schema=public", *command)
    assert done.exit_code == 2
    assert "The URL of the database (bind 'other') cannot be used: " in done.output
    assert len(done.output.splitlines()) == 1


def test_a_check_names_rejected_parameters(tmp_path: Path) -> None:
    assert "[database-url]" in run(tmp_path, "schema=public", "check", "--only", "config").output


def test_too_many_workers_are_refused_with_the_number_to_set(tmp_path: Path) -> None:
    done = run(tmp_path, "", "run", "--http", "off", "--workers", "20")
    assert done.exit_code == 2
    assert "Set pool_size to 22" in done.output


def test_rejected_parameters_of_tables_are_refused(tmp_path: Path) -> None:
    url = ["--database-url", "postgresql://u:secret@127.0.0.1:1/d?schema=public", "--amqp-url", "amqp://h"]
    done = CliRunner().invoke(cli, ["run", "--table", "a", "--http", "127.0.0.1:0", *url])
    assert done.exit_code == 2
    assert 'invalid connection option "schema"' in done.output
    assert "secret" not in done.output
    done = CliRunner().invoke(cli, ["check", "--table", "a", *url])
    assert "[database-url]" in done.output


def test_an_engine_that_cannot_write_is_refused() -> None:
    options = {"postgresql_readonly": True}
    engine = create_engine("postgresql+psycopg2://127.0.0.1:1/d", execution_options=options)
    with pytest.raises(LoadingError, match=r"bind 'archive'.* deletes what it has sent\. Take it out"):
        refuse_unfit_engines({"archive": engine}, 1)
