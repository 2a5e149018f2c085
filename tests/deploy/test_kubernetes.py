"""What kustomize and the chart render: valid, restricted, without secrets, and in agreement with the relay."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
from prometheus_client import CollectorRegistry

from relay.config.options import OPTIONS
from relay.telemetry.metrics import Metrics
from relay.telemetry.states import BACKLOG_COUNTED_TO

from . import operators
from .manifests import WAYS, Object, containers_of, of_kind, pod_of, relay_of, rendered

#: Native sidecars are stable since.
KUBERNETES_VERSION = "1.33"


@pytest.fixture(params=[f"{source} {way}" for source in ("kustomize", "chart") for way in WAYS])
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return rendered(*request.param.split())


@pytest.fixture
def pods(objects: tuple[Object, ...]) -> list[Object]:
    return [pod_of(each) for each in objects if each["kind"] == "Deployment"]


def test_every_object_is_valid(objects: tuple[Object, ...]) -> None:
    assert objects
    for each in objects:
        if (each["apiVersion"], each["kind"]) in operators.SHAPES:
            assert operators.problems(each) == []
        else:
            kubernetes_validate.validate(each, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": 15}]}, "15 is no str"),
        ({"podMetricsEndpoints": [{"path": "/metrics", "interval": "15s"}]}, "port is missing"),
        ({"podMetricEndpoints": []}, "podMetricEndpoints is unknown"),
    ],
)
def test_an_object_of_an_operator_that_is_wrong_is_found(change: dict[str, Any], problem: str) -> None:
    found = of_kind(rendered("chart", "base"), "PodMonitor")
    changed = {**found, "spec": {**found["spec"], **change}}
    assert problem in " ".join(operators.problems(changed))


def test_no_pod_may_do_more_than_the_restricted_standard_allows(pods: list[Object]) -> None:
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers_of(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"].keys() == {"memory"}


def test_secrets_are_referred_to_and_never_written(objects: tuple[Object, ...], pods: list[Object]) -> None:
    assert not [each for each in objects if each["kind"] == "Secret"]
    assert "://" not in "".join(str(pod) for pod in pods)
    for pod in pods:
        relay = relay_of(pod)
        mounted = {mount["mountPath"] for mount in relay["volumeMounts"]}
        files = [variable for variable in relay["env"] if variable["name"].endswith("_FILE")]
        assert files
        assert {variable["value"].rpartition("/")[0] for variable in files} == mounted
        for variable in relay["env"]:
            if "URL" in variable["name"] and variable not in files:
                assert variable["valueFrom"]["secretKeyRef"]["name"] == "signalbus-relay"


def test_every_relay_variable_is_an_option(pods: list[Object]) -> None:
    known = {option.variable + end for option in OPTIONS for end in ("", "_FILE") if not end or option.is_secret}
    for pod in pods:
        used = {variable["name"] for variable in relay_of(pod)["env"]}
        assert {name for name in used if name.startswith("SIGNALBUS_RELAY_")} <= known


def test_relay_has_more_time_to_stop_than_its_bursts_have_to_end(pods: list[Object]) -> None:
    drain = next(option.default for option in OPTIONS if option.name == "drain-timeout")
    for pod in pods:
        assert pod["terminationGracePeriodSeconds"] >= drain + 10


def test_what_restarts_a_relay_never_asks_about_servers(pods: list[Object]) -> None:
    for pod in pods:
        relay = relay_of(pod)
        assert relay["startupProbe"]["httpGet"]["path"] == "/livez"
        assert relay["livenessProbe"]["httpGet"]["path"] == "/livez"
        if "readinessProbe" in relay:
            assert relay["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_probes_and_prometheus_ask_at_the_port_of_the_relay(objects: tuple[Object, ...], pods: list[Object]) -> None:
    for pod in pods:
        relay = relay_of(pod)
        (port,) = relay["ports"]
        address = next(variable["value"] for variable in relay["env"] if variable["name"] == "SIGNALBUS_RELAY_HTTP")
        assert address == f"0.0.0.0:{port['containerPort']}"
        probes = [value for name, value in relay.items() if name.endswith("Probe")]
        assert {probe["httpGet"]["port"] for probe in probes} == {port["name"]}
        (endpoint,) = of_kind(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")


def test_what_selects_pods_selects_those_of_the_deployment(objects: tuple[Object, ...]) -> None:
    for deployment in [each for each in objects if each["kind"] == "Deployment"]:
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        selectors = [each["spec"]["selector"]["matchLabels"] for each in objects if "selector" in each.get("spec", {})]
        selectors += [
            spread["labelSelector"]["matchLabels"] for spread in pod_of(deployment).get("topologySpreadConstraints", [])
        ]
        assert len(selectors) >= 2
        assert all(selector.items() <= labels for selector in selectors)


def test_a_new_relay_is_ready_before_an_old_one_is_stopped() -> None:
    strategy = of_kind(rendered("chart", "base"), "Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("source", ["kustomize", "chart"])
def test_relays_are_scaled_by_the_max_of_what_they_count(source: str) -> None:
    objects = rendered(source, "keda")
    spec = of_kind(objects, "ScaledObject")["spec"]
    assert spec["scaleTargetRef"]["name"] == of_kind(objects, "Deployment")["metadata"]["name"]
    assert "replicas" not in of_kind(objects, "Deployment")["spec"]
    assert 0 < spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    (trigger,) = [trigger["metadata"] for trigger in spec["triggers"]]
    (metric,) = re.findall(r"max by \(signal\) \((\w+)\{", trigger["query"])
    registry = CollectorRegistry()
    Metrics(registry).prepare(["model"])
    assert metric in {family.name for family in registry.collect()}
    assert int(trigger["threshold"]) * spec["maxReplicaCount"] <= BACKLOG_COUNTED_TO


def test_a_sidecar_starts_before_the_application_and_differs_from_a_relay_in_what_it_must() -> None:
    sidecar = relay_of(pod_of(of_kind(rendered("kustomize", "sidecar"), "Deployment")))
    relay = relay_of(pod_of(of_kind(rendered("kustomize", "base"), "Deployment")))
    assert sidecar["restartPolicy"] == "Always"
    differ = {name for name in sidecar.keys() | relay.keys() if sidecar.get(name) != relay.get(name)}
    assert differ == {
        "args",
        "command",
        "livenessProbe",
        "ports",
        "readinessProbe",
        "restartPolicy",
        "startupProbe",
    }
