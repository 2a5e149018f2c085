"""The Helm chart gives what kustomize gives, refuses wrong values, and describes all of its own."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deployment import COPIES, documented_values

from .manifests import (
    CHART,
    KUBERNETES,
    WAYS,
    Object,
    chart_values,
    charted,
    containers_of,
    kustomized,
    kustomized_at,
    pod_of,
    relay_of,
)
from .tools import ROOT

DEPLOY_HOW_TO = ROOT / "docs" / "how-to" / "deploy.md"

VARIABLE = "SIGNALBUS_RELAY_OPERATOR_TOKEN_FILE"

#: Labels that Helm's users expect, and kustomize's do not.
OF_HELM = {"app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}


def plain(value: Any) -> Any:
    """An object without what the two may differ in: Helm's labels, the order of variables."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in OF_HELM | {"imagePullPolicy"}}
    if isinstance(value, list):
        items = [plain(item) for item in value]
        return sorted(items, key=lambda item: str(item["name"])) if items and named(items) else items
    return value


def named(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and "name" in item for item in items)


def by_kind(objects: tuple[Object, ...]) -> dict[tuple[str, str], Object]:
    return {(each["kind"], each["metadata"]["name"]): plain(each) for each in objects}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "sidecar"])
def test_the_chart_gives_what_kustomize_gives(way: str) -> None:
    assert by_kind(charted(chart_values(way))) == by_kind(kustomized(way))


def test_app_that_takes_sidecar_of_chart_gets_that_of_kustomize(tmp_path: Path) -> None:
    expected = by_kind(kustomized("sidecar"))
    shutil.copytree(CHART, tmp_path / "charts" / CHART.name)
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (tmp_path / "templates" / "deployment.yaml").write_text(as_the_readme_says(expected["Deployment", "shop"]))
    assert by_kind(charted({CHART.name: chart_values("sidecar")}, tmp_path)) == expected


def as_the_readme_says(deployment: Object) -> str:
    """A template of the application's Deployment, with the README's lines in the place of the relay's own."""
    own = copy.deepcopy(deployment)
    pod = own["spec"]["template"]["spec"]
    for name in ("initContainers", "volumes", "terminationGracePeriodSeconds"):
        del pod[name]
    (lines,) = re.findall(r"^```yaml\n(.*?)^```", (CHART / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return yaml.safe_dump(own).replace("    spec:\n", f"    spec:\n{lines}")


@pytest.mark.parametrize("way", WAYS)
def test_the_linter_of_charts_is_content(way: str) -> None:
    helm = pytest.importorskip("helm_python.chart", reason="the extra signalbus[deploy] is not installed")
    report = helm.lint(CHART, chart_values(way), strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] >= 2] == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "Give app"),
        ({"app": "shop:app", "tables": ["outbox"]}, "not both"),
        ({"app": "shop app"}, "/app"),
        ({"tables": ["one,two"]}, "/tables/0"),
        ({"app": "shop", "existingSecret": ""}, "/existingSecret"),
        ({"app": "shop", "replica": 3}, "replica"),
        ({"app": "shop", "options": {"HTTP": "off"}}, "HTTP"),
        ({"app": "shop", "options": {"OPERATOR_TOKEN": "not-in-a-manifest"}}, "OPERATOR_TOKEN"),
        ({"app": "shop", "keda": {"minReplicas": 0}}, "/keda/minReplicas"),
        ({"app": "shop", "sidecar": True, "podMonitor": {"enabled": True}}, "podMonitor.matchLabels"),
    ],
)
def test_wrong_values_are_refused_with_the_reason(values: dict[str, Any], reason: str) -> None:
    helm = pytest.importorskip("helm_python.errors", reason="the extra signalbus[deploy] is not installed")
    with pytest.raises(helm.HelmError, match=reason):
        charted(values)


def test_options_and_further_variables_reach_the_relay() -> None:
    values = {
        "app": "shop",
        "options": {"WORKERS": 4, "LOG_FORMAT": "text"},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "envFrom": [{"secretRef": {"name": "shop"}}],
    }
    deployment = next(each for each in charted(values) if each["kind"] == "Deployment")
    (relay,) = containers_of(deployment["spec"]["template"]["spec"])
    variables = {variable["name"]: variable.get("value") for variable in relay["env"]}
    assert variables["SIGNALBUS_RELAY_WORKERS"] == "4"
    assert variables["SIGNALBUS_RELAY_LOG_FORMAT"] == "text"
    assert variables["TZ"] == "UTC"
    assert relay["envFrom"] == [{"secretRef": {"name": "shop"}}]


def test_the_operator_token_is_read_from_the_secret_by_the_chart_as_by_the_patch_for_kustomize(tmp_path: Path) -> None:
    (patch,) = re.findall(r"^```yaml\n(patches:\n.*?)^```", DEPLOY_HOW_TO.read_text(), re.MULTILINE | re.DOTALL)
    shutil.copytree(KUBERNETES / "base", tmp_path / "base")
    (tmp_path / "kustomization.yaml").write_text(f"resources:\n  - base\n{patch}")
    expected = by_kind(kustomized_at(tmp_path))
    relay = relay_of(pod_of(expected["Deployment", "signalbus-relay"]))
    assert {"name": VARIABLE, "value": "/run/secrets/signalbus/operator-token"} in relay["env"]
    assert by_kind(charted({**chart_values("base"), "operatorTokenKey": "operator-token"})) == expected


def test_what_a_cluster_lacks_can_be_switched_off() -> None:
    off = {name: {"enabled": False} for name in ("podDisruptionBudget", "podMonitor", "prometheusRule")}
    assert {each["kind"] for each in charted({"app": "shop", **off})} == {"Deployment", "ServiceAccount"}


def test_every_value_is_described_and_checked() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    groups = {name for name in schema if "properties" in schema[name]}
    leaves = {name for name in values if name not in groups}
    leaves |= {f"{group}.{name}" for group in groups for name in values[group]}
    checked = {name for name in schema if name not in groups | {"global"}}
    checked |= {f"{group}.{name}" for group in groups for name in schema[group]["properties"]}
    assert leaves == checked == set(documented_values())


@pytest.mark.parametrize("path", COPIES, ids=lambda path: path.name)
def test_copies_are_as_they_would_be_written_now(path: Path) -> None:
    assert path.read_text() == COPIES[path](), "run: python -m tests.support.deployment"
