"""The rules for Prometheus: each alert fires when it should, and only then, and speaks of metrics that exist."""

from __future__ import annotations

import re
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from relay.telemetry.metrics import Metrics

from .tools import ROOT, output_of, program

RULES = ROOT / "deploy" / "prometheus" / "signalbus.rules.yml"
TESTS = ROOT / "deploy" / "prometheus" / "tests" / "alerts.yml"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def metric_names() -> set[str]:
    """Every series name that a relay exposes."""
    registry = CollectorRegistry()
    Metrics(registry).prepare(["Order"])
    return {sample.name for family in registry.collect() for sample in family.samples}


def test_promtool_finds_nothing_wrong() -> None:
    assert "SUCCESS" in output_of(program("promtool"), "check", "rules", str(RULES))


def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in output_of(program("promtool"), "test", "rules", str(TESTS))


def test_for_every_alert_it_is_tested_when_it_fires_and_when_not() -> None:
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test.get("alert_rule_test", [])]
    for kind in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is kind} == set(alerts())


def test_every_alert_says_how_grave_it_is_what_it_means_and_where_to_read_on() -> None:
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_the_rules_speak_of_metrics_that_exist() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        named = set(re.findall(r"(?<![\w:])(?:signal:)?signalbus_[\w:]+", rule["expr"]))
        assert named <= metric_names() | recorded, rule
