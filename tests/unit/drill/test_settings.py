"""What a drill is told, and where its relays' connections may lead."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from relay.application.fencing import fencing_problem
from relay.drill.app import environment
from relay.drill.proxy import Upstream, broker_detour, broker_upstream, database_detour, database_upstream
from relay.drill.settings import DrillUsageError, heartbeats, idle_timeout, resolve
from tests.unit.test_structure import PUBLIC, imports_of

DATABASE_URL = "postgresql://user:secret@db.example/shop"
AMQP_URL = "amqp://user:secret@mq.example/shop"
GIVEN = {"database_url": DATABASE_URL, "amqp_url": AMQP_URL}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_database_urls_are_made_fit_for_the_driver(scheme: str) -> None:
    settings = resolve(GIVEN | {"database_url": f"{scheme}://user:secret@db.example/shop"}, {})
    assert settings.database_url.drivername == "postgresql+psycopg2"
    assert settings.database_url.password == "secret"


def test_defaults() -> None:
    settings = resolve(GIVEN, {})
    assert (settings.signals, settings.seconds, settings.relays, settings.queue_type) == (5000, 30.0, 2, "classic")
    assert not settings.as_json


def test_urls_fall_back_to_the_environment_and_the_option_wins() -> None:
    environ = {"DATABASE_URL": DATABASE_URL, "RABBITMQ_URL": AMQP_URL}
    assert resolve({}, environ).amqp_url == AMQP_URL
    assert resolve({}, environ | {"AMQP_URL": "amqp://first"}).amqp_url == "amqp://first"
    assert resolve({"amqp_url": "amqp://option"}, environ).amqp_url == "amqp://option"


def test_all_problems_are_reported_together_without_passwords() -> None:
    wrong = {
        "database_url": "mysql://user:secret@host/db",
        "amqp_url": "http://user:secret@host",
        "signals": "none",
        "seconds": "nan",
        "relays": "0",
        "seed": "-1",
        "queue_type": "stream",
    }
    with pytest.raises(DrillUsageError) as caught:
        resolve(wrong, {})
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        *("--database-url", "--amqp-url", "--signals", "--seconds", "--relays", "--seed", "--queue-type")
    ]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "user:secret@host", "postgresql://user:secret@host:port/db"])
def test_what_is_no_url_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(DrillUsageError) as caught:
        resolve({"database_url": text, "amqp_url": text}, {})
    assert len(caught.value.problems) == 2
    assert "secret" not in str(caught.value)


def test_a_variable_with_a_problem_is_named() -> None:
    with pytest.raises(DrillUsageError, match=r"^RABBITMQ_URL: "):
        resolve({"database_url": DATABASE_URL}, {"RABBITMQ_URL": "mq.example"})


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("postgresql+psycopg2:///shop", {}),
        ("postgresql+psycopg2://user@/shop?host=/run/postgresql", {}),
        ("postgresql+psycopg2://user@db.example/shop?sslmode=verify-full", {}),
        ("postgresql+psycopg2://user@db.example/shop", {"PGSSLMODE": "verify-full"}),
    ],
)
def test_database_that_checks_or_lacks_host_name_takes_no_detour(url: str, environ: dict[str, str]) -> None:
    assert isinstance(database_upstream(make_url(url), environ), str)


def test_other_databases_take_a_detour_with_everything_else_unchanged() -> None:
    url = make_url("postgresql+psycopg2://user:p%40ss@db.example/shop?sslmode=require")
    assert database_upstream(url, {}) == Upstream("db.example", 5432)
    assert (
        database_detour(url, 7777).render_as_string(hide_password=False)
        == "postgresql+psycopg2://user:p%40ss@127.0.0.1:7777/shop?sslmode=require"
    )


def test_a_broker_with_tls_takes_no_detour_and_others_do() -> None:
    assert isinstance(broker_upstream("amqps://mq.example"), str)
    assert broker_upstream("amqp://mq.example") == Upstream("mq.example", 5672)
    assert (
        broker_detour("amqp://u:p%40ss@mq.example:1/%2F?heartbeat=5", 7)
        == "amqp://u:p%40ss@127.0.0.1:7/%2F?heartbeat=5"
    )
    assert broker_detour("amqp://mq.example", 7) == "amqp://127.0.0.1:7"


def test_the_relays_are_told_by_the_environment() -> None:
    assert environment("name", "database", "broker", with_order=True) == {
        "SIGNALBUS_DRILL_NAME": "name",
        "SIGNALBUS_DRILL_SQLALCHEMY_DATABASE_URI": "database",
        "SIGNALBUS_DRILL_SIGNALBUS_RABBITMQ_URL": "broker",
        "SIGNALBUS_DRILL_WITH_ORDER": "true",
    }


@pytest.mark.parametrize(
    "source", sorted((Path(__file__).parents[3] / "relay" / "drill").rglob("*.py")), ids=lambda path: path.name
)
def test_the_drill_uses_only_public_names_of_the_library(source: Path) -> None:
    for module, name in imports_of(source):
        assert name in PUBLIC.get(module, set()), f"{module}.{name}"


@pytest.mark.parametrize(("query", "seconds"), [("", 120.0), ("?heartbeat=60", 240.0), ("?heartbeat=0", 120.0)])
def test_relays_of_a_drill_have_an_idle_timeout_that_order_by_key_allows(query: str, seconds: float) -> None:
    found = heartbeats(f"amqp://localhost/{query}")
    assert idle_timeout(max(found)) == seconds
    assert fencing_problem(max(found), idle_timeout(max(found))) is None or min(found) == 0
