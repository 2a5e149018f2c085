"""The objects that kustomize and Helm render, as plain dictionaries."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from .tools import ROOT, output_of

KUBERNETES = ROOT / "deploy" / "kubernetes"
CHART = ROOT / "deploy" / "helm" / "signalbus-relay"

#: Each way to deploy, by the directory of kustomize; the chart has a file of values for each.
WAYS = {"base": "base", "table": "overlays/table", "keda": "overlays/keda", "sidecar": "overlays/sidecar"}

Object = dict[str, Any]


@cache
def kustomized(way: str) -> tuple[Object, ...]:
    return kustomized_at(KUBERNETES / WAYS[way])


def kustomized_at(directory: Path) -> tuple[Object, ...]:
    command = kustomize_command()
    if not command:
        pytest.skip("neither kustomize 4 nor a kubectl that has it is there: the overlays were not rendered")
    return tuple(yaml.safe_load_all(output_of(*command, str(directory))))


@cache
def kustomize_command() -> tuple[str, ...]:
    """The program of this machine that renders; empty where there is none, or an old one."""
    if found := shutil.which("kustomize"):
        return found, "build"
    if found := shutil.which("kubectl"):
        done = subprocess.run(
            [found, "version", "--client", "--output", "json"], capture_output=True, text=True, check=False
        )
        version = json.loads(done.stdout or "{}").get("kustomizeVersion", "v0")
        if int(version.removeprefix("v").split(".")[0]) >= 4:
            return found, "kustomize"
    return ()


def charted(values: dict[str, Any], chart: Path = CHART) -> tuple[Object, ...]:
    chart_class = pytest.importorskip(
        "helm_python", reason="the extra signalbus[deploy] is not installed: the chart was not rendered"
    ).Chart
    with chart_class.load(chart) as loaded:
        rendered = loaded.render(values=values, name="signalbus-relay", namespace="default")
    manifests = [text for name, text in rendered.items() if name.endswith(".yaml")]
    return tuple(found for text in manifests for found in yaml.safe_load_all(text) if found)


def chart_values(way: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{way}-values.yaml").read_text())
    return values


@cache
def rendered(source: str, way: str) -> tuple[Object, ...]:
    return kustomized(way) if source == "kustomize" else charted(chart_values(way))


def of_kind(objects: tuple[Object, ...], kind: str) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def pod_of(deployment: Object) -> Object:
    spec: Object = deployment["spec"]["template"]["spec"]
    return spec


def containers_of(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def relay_of(pod: Object) -> Object:
    (found,) = [container for container in containers_of(pod) if container["name"] == "relay"]
    return found
