"""The dashboard: every panel says what is normal, speaks of metrics that exist, and shows something."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from relay.telemetry.metrics import Metrics
from signalbus_core import parked_table_sql, paused_table_sql
from tests.support.broker import Broker
from tests.support.prometheus import PrivatePrometheus
from tests.support.shop import Shop
from tests.support.waiting import eventually

from .tools import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "signalbus.json"
VARIABLES = {"$job": ".*", "$signal": ".*", "$__rate_interval": "10s"}

#: What the relay does not make itself: its metrics library and Prometheus do.
OF_OTHERS = {"ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes"}


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def exposed() -> set[str]:
    """The names of the relay's series; a histogram has three."""
    registry = CollectorRegistry()
    Metrics(registry).prepare(["Order"])
    return {sample.name for family in registry.collect() for sample in family.samples}


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b((?:signalbus|process)_\w+|ALERTS)\b", expression))


def test_the_dashboard_is_formatted_as_it_would_be_written() -> None:
    assert DASHBOARD.read_text() == json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


def test_every_panel_tells_what_it_shows_and_has_place() -> None:
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]


def test_dashboard_shows_all_metrics_that_exist_and_no_other() -> None:
    named = set().union(*map(names_in, expressions()))
    assert named <= exposed() | OF_OTHERS
    # A histogram is shown when one of its three series is.
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed() if name.startswith("signalbus_")} == {
        name for name in families if name.startswith("signalbus_")
    }


def test_only_the_variables_that_it_has_are_used() -> None:
    defined = {f"${variable['name']}" for variable in dashboard()["templating"]["list"]} | {"$__rate_interval"}
    assert set(re.findall(r"\$\w+", " ".join(expressions()))) == defined - {"$datasource"}


@pytest.fixture
def shop(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[Shop]:
    """The shop with the tables of Signalbus, and invoices that know when they were written."""
    shop = Shop(tmp_path, database_url, broker)
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(parked_table_sql() + paused_table_sql())
    shop.execute("ALTER TABLE invoice ADD created_at timestamptz DEFAULT clock_timestamp()")
    application = tmp_path / "shop.py"
    with_time = "class Invoice(Sent):\n    created_at = db.Column(db.DateTime(timezone=True))\n"
    application.write_text(application.read_text().replace("class Invoice(Sent):\n", with_time))
    yield shop
    shop.close()


def test_every_expression_gives_data_about_relays_that_send(shop: Shop) -> None:
    relays = [shop.relay(), shop.relay()]
    number = 0

    def silent() -> list[str]:
        """The expressions that give no number, after some more signals were written."""
        nonlocal number
        shop.write(number, number + 4)
        shop.write(number, number + 4, "invoice")
        number += 5
        return [expression for expression in expressions() if not has_numbers(prometheus, expression)]

    with PrivatePrometheus(relay.port for relay in relays) as prometheus:
        eventually(lambda: not silent(), 60, "every expression gives data", every_seconds=0.5)


def has_numbers(prometheus: PrivatePrometheus, expression: str) -> bool:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return any(not math.isnan(float(series["value"][1])) for series in prometheus.query(expression))
