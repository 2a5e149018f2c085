"""The rules for Prometheus: each alert fires when it should, and only then, and speaks of metrics that exist."""

from __future__ import annotations

import re
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from relay.telemetry.metrics import Metrics

from .tools import ROOT, output_of, program

RULES = ROOT / "deploy" / "prometheus" / "signalbus.rules.yml"
ALERTMANAGER = ROOT / "deploy" / "prometheus" / "alertmanager.yml"
TESTS = sorted((ROOT / "deploy" / "prometheus" / "tests").glob("*.yml"))


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
    assert "SUCCESS" in output_of(program("promtool"), "test", "rules", *map(str, TESTS))


def test_for_every_alert_it_is_tested_when_it_fires_and_when_not() -> None:
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
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


# Alertmanager


def inhibitions() -> list[tuple[set[str], set[str], list[str]]]:
    """Of each rule: the alerts that hold back, those that are held back, and the labels that must be the same."""
    found = []
    for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]:
        sides = []
        for side in ("source_matchers", "target_matchers"):
            names = set(alerts())
            for operator, value in re.findall(r'alertname (=~|=|!=) "(.*?)"', " ".join(rule[side])):
                matching = {name for name in alerts() if re.fullmatch(value, name)}
                assert matching, value
                names = names - matching if operator == "!=" else names & matching
            sides.append(names)
        found.append((*sides, rule["equal"]))
    return found


def labels_of(alert: str) -> set[str]:
    """The labels by which an alert's value is grouped, in its rule or in those that it takes series from."""
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    texts = [alerts()[alert]["expr"]]
    texts += [expr for name, expr in recorded.items() if name in texts[0]]
    return {word for text in texts for group in re.findall(r"by \((.*?)\)", text) for word in group.split(", ")}


def test_amtool_finds_nothing_wrong_and_routes_by_severity() -> None:
    amtool = program("amtool")
    assert "SUCCESS" in output_of(amtool, "check-config", str(ALERTMANAGER))
    for name, alert in alerts().items():
        labels = (f"alertname={name}", f"severity={alert['labels']['severity']}")
        told = output_of(amtool, "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels).strip()
        assert told == {"critical": "on-call", "warning": "team"}[alert["labels"]["severity"]]


def test_an_alert_is_held_back_by_another_about_the_same_thing_only() -> None:
    for sources, targets, equal in inhibitions():
        assert sources
        assert targets
        assert not sources & targets
        for name in sources:
            assert set(equal) <= labels_of(name), name
        # A replica's own alert keeps the labels of its target.
        assert all(set(equal) <= labels_of(name) for name in targets - {"SignalbusReplicaDown"})


def test_no_alert_holds_back_a_graver_one() -> None:
    grave = {name for name, alert in alerts().items() if alert["labels"]["severity"] == "critical"}
    for sources, targets, _ in inhibitions():
        assert sources <= grave or not targets & grave


def test_what_needs_a_person_is_held_back_by_nothing_but_a_missing_relay() -> None:
    held = set().union(*(targets for sources, targets, _ in inhibitions() if sources != {"SignalbusRelayDown"}))
    assert not held & {
        "SignalbusMessagesReturned",
        "SignalbusSignalsParked",
        "SignalbusPausedLong",
        "SignalbusHorizonHeld",
    }
