"""What is copied between deployment files. ``python -m tests.support.deployment`` writes the copies anew.

Prometheus' rules are written once, in deploy/prometheus/. The chart's table of values comes from its values.yaml, where
the comment above a value tells what it means.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "signalbus.rules.yml"
CHART = DEPLOY / "helm" / "signalbus-relay"

RULE_OBJECT = """\
# Written by python -m tests.support.deployment from deploy/prometheus/signalbus.rules.yml
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: signalbus-relay
spec:
"""


def rule_object() -> str:
    """The rules as an object for Prometheus' operator."""
    return RULE_OBJECT + textwrap.indent(RULES.read_text(), "  ")


def readme() -> str:
    """The chart's README with the table of values as they are now."""
    text = (CHART / "README.md").read_text()
    table = "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *values_table()])
    block = f"<!-- values -->\n{table}\n<!-- /values -->"
    return re.sub("<!-- values -->.*?<!-- /values -->", lambda _: block, text, flags=re.DOTALL)


def values_table() -> list[str]:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = []
    for path, meaning in documented_values().items():
        value = values
        for part in path.split("."):
            value = value[part]
        rows.append(f"| `{path}` | `{json.dumps(value)}` | {meaning} |")
    return rows


def documented_values() -> dict[str, str]:
    """What the comment above each value says, by its dotted path. A group of values has none: its members do."""
    found: dict[str, str] = {}
    comment: list[str] = []
    group = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        match = re.match(r"( {0,2})(\w+):", line)
        if line.strip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
        elif match:
            name = f"{group}.{match[2]}" if match[1] else match[2]
            group = group if match[1] else match[2]
            if comment:
                found[name] = " ".join(comment)
            comment = []
    return found


#: Each file that is a copy, and what has to stand in it.
COPIES = {
    DEPLOY / "kubernetes" / "base" / "prometheus-rule.yaml": rule_object,
    CHART / "files" / RULES.name: RULES.read_text,
    CHART / "README.md": readme,
}


if __name__ == "__main__":
    for path, content in COPIES.items():
        path.write_text(content())
