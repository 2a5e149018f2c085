"""The runbook: each alert has its section, and what it tells to do can be done."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from prometheus_client import CollectorRegistry

from relay.checks.finding import KINDS
from relay.cli import cli
from relay.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "runbook.md").read_text()
RULES = ROOT / "deploy" / "prometheus" / "signalbus.rules.yml"

SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^##? |\Z)", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = sorted(set(re.findall(r"^\$ signalbus-relay (.+)$", TEXT, re.MULTILINE)))

#: What has a name of this kind, and is neither a metric nor a log action.
OTHER_NAMES = {
    "signalbus_burst_count",
    "signalbus_sent",
    "message_id",
    "signalbus_id",
    "idle_in_transaction_session_timeout",
}


def alerts() -> set[str]:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return {rule["alert"] for rule in rules if "alert" in rule}


def metric_names() -> set[str]:
    registry = CollectorRegistry()
    Metrics(registry).prepare(["Order"])
    return {sample.name for family in registry.collect() for sample in family.samples}


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert {title for title in SECTIONS if title.startswith("Signalbus")} == alerts()


@pytest.mark.parametrize("title", SECTIONS)
def test_each_section_says_what_is_seen_what_it_means_what_to_do_and_when_it_is_over(title: str) -> None:
    steps = re.findall(r"^\*\*(You see|It means|Look|Do|It is over when)\*\*", SECTIONS[title], re.MULTILINE)
    assert steps == ["You see", "It means", "Look", "Do", "It is over when"]


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_can_be_given_as_it_is_written(line: str) -> None:
    name, *arguments = shlex.split(line)
    command = cli.commands[name]
    while isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    # Parses, and runs nothing.
    command.make_context(line, arguments, obj={})


def test_each_metric_log_action_and_finding_that_is_named_exists() -> None:
    actions = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "reference" / "log-actions.md").read_text()))
    named = set(re.findall(r"`([a-z]+_\w+)`", TEXT))
    assert named <= metric_names() | actions | OTHER_NAMES
    assert named >= OTHER_NAMES
    assert set(re.findall(r"`([a-z]+-[a-z-]+)`", TEXT)) - {"signalbus-relay"} <= set(KINDS)
