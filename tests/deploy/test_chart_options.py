"""What the chart makes on request is valid and fits together, and what cannot be meant is refused in words."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from . import operators
from .manifests import CHART, Object, chart_values, charted, containers_of, of_kind, pod_of, relay_of
from .test_kubernetes import KUBERNETES_VERSION


@pytest.fixture(scope="module")
def full() -> tuple[Object, ...]:
    return charted(chart_values("full"))


def test_every_object_is_valid(full: tuple[Object, ...]) -> None:
    made = {each["kind"] for each in full}
    assert {"Service", "Ingress", "NetworkPolicy", "Job", "PodMonitor", "PrometheusRule"} <= made
    for each in full:
        if (each["apiVersion"], each["kind"]) in operators.SHAPES:
            assert operators.problems(each) == []
        else:
            kubernetes_validate.validate(each, KUBERNETES_VERSION, strict=True)


def test_what_is_not_asked_for_is_not_made() -> None:
    kinds = sorted(each["kind"] for each in charted({"app": "shop"}))
    assert kinds == ["Deployment", "PodDisruptionBudget", "ServiceAccount"]


def test_objects_of_an_operator_are_made_where_the_cluster_has_the_kind() -> None:
    """The renderer of the tests knows no cluster; the condition is read."""
    for name, kind in (("pod-monitor", "PodMonitor"), ("prometheus-rule", "PrometheusRule")):
        first, *_ = (CHART / "templates" / f"{name}.yaml").read_text().splitlines()
        assert f'"kind" "monitoring.coreos.com/v1/{kind}"' in first
        value = kind[0].lower() + kind[1:]
        assert kind not in {each["kind"] for each in charted({"app": "shop", value: {"enabled": "auto"}})}
        assert kind in {each["kind"] for each in charted({"app": "shop", value: {"enabled": True}})}


def test_a_digest_wins_over_the_tag(full: tuple[Object, ...]) -> None:
    expected = "registry.example/shop-relay@sha256:" + "a" * 64
    assert relay_of(pod_of(of_kind(full, "Deployment")))["image"] == expected
    (check,) = containers_of(pod_of(of_kind(full, "Job")))
    assert check["image"] == expected


def test_the_check_runs_before_with_what_the_relay_has(full: tuple[Object, ...]) -> None:
    job, relay = of_kind(full, "Job"), relay_of(pod_of(of_kind(full, "Deployment")))
    (check,) = containers_of(pod_of(job))
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert (check["command"], check["args"]) == (["signalbus-relay"], ["check", "--send-probe"])
    for name in ("env", "volumeMounts", "securityContext", "resources"):
        assert check[name] == relay[name], name
    assert pod_of(job)["volumes"] == pod_of(of_kind(full, "Deployment"))["volumes"]
    # Made after the hook, so the hook cannot use it.
    assert "serviceAccountName" not in pod_of(job)


def test_nothing_that_selects_relays_selects_the_check(full: tuple[Object, ...]) -> None:
    labels = of_kind(full, "Job")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        of_kind(full, kind)["spec"]["selector"] for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor")
    ]
    selectors += [of_kind(full, "NetworkPolicy")["spec"]["podSelector"]]
    assert not [each for each in selectors if each["matchLabels"].items() <= labels]
    assert not of_kind(full, "Service")["spec"]["selector"].items() <= labels


def test_service_ingress_and_policy_lead_to_the_port_of_the_relay(full: tuple[Object, ...]) -> None:
    deployment = of_kind(full, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    (port,) = relay_of(pod_of(deployment))["ports"]
    service = of_kind(full, "Service")
    (of_service,) = service["spec"]["ports"]
    assert service["spec"]["selector"].items() <= labels
    assert of_service["targetPort"] == port["name"]
    (rule,) = of_kind(full, "Ingress")["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": service["metadata"]["name"], "port": {"name": of_service["name"]}}
    policy = of_kind(full, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert policy["ingress"][0]["ports"] == [{"port": port["name"], "protocol": "TCP"}]
    assert {53, 5432, 5671} == {each["port"] for rule in policy["egress"] for each in rule["ports"]}


def test_relays_answer_to_the_names_of_service_and_ingress(full: tuple[Object, ...]) -> None:
    relay = relay_of(pod_of(of_kind(full, "Deployment")))
    (hosts,) = [each["value"] for each in relay["env"] if each["name"] == "SIGNALBUS_RELAY_HTTP_HOSTS"]
    assert hosts.split(",") == [
        "relay.internal",
        "signalbus-relay",
        "signalbus-relay.default",
        "signalbus-relay.default.svc",
        "relay.example",
    ]


def test_a_policy_without_rules_restricts_nothing_by_accident() -> None:
    policy = of_kind(charted({"app": "shop", "networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert policy["egress"] == [{}]
    assert "from" not in policy["ingress"][0]


def test_each_alert_leads_to_the_runbook_of_the_company(full: tuple[Object, ...]) -> None:
    groups = of_kind(full, "PrometheusRule")["spec"]["groups"]
    urls = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert urls
    assert all(re.fullmatch(r"https://wiki\.example/signalbus#signalbus\w+", url) for url in urls)


def test_an_account_of_others_is_used_and_not_made() -> None:
    objects = charted({"app": "shop", "serviceAccount": {"create": False, "name": "mine"}})
    assert "ServiceAccount" not in {each["kind"] for each in objects}
    assert pod_of(of_kind(objects, "Deployment"))["serviceAccountName"] == "mine"


def test_constraints_of_the_user_replace_those_of_the_chart(full: tuple[Object, ...]) -> None:
    assert (
        pod_of(of_kind(full, "Deployment"))["topologySpreadConstraints"]
        == chart_values("full")["topologySpreadConstraints"]
    )


def test_no_value_for_everything_changes_the_names_of_the_selector(full: tuple[Object, ...]) -> None:
    """A Deployment's selector cannot be changed by an upgrade."""
    plain = of_kind(charted(chart_values("base")), "Deployment")["spec"]["selector"]
    assert of_kind(full, "Deployment")["spec"]["selector"] == plain


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "Give app .* or tables"),
        ({"app": "shop:app", "tables": ["outbox"]}, "not both"),
        ({"options": {"DRAIN_TIMEOUT": 60}}, "terminationGracePeriodSeconds .* has to exceed"),
        ({"options": {"DRAIN_TIMEOUT": "41"}}, "terminationGracePeriodSeconds .* has to exceed"),
        ({"ingress": {"enabled": True, "host": "a.example"}}, "needs service.enabled"),
        ({"ingress": {"enabled": True}, "service": {"enabled": True}}, "under which host name"),
        ({"keda": {"enabled": True, "minReplicas": 9}}, "more than keda.maxReplicas"),
        ({"keda": {"enabled": True, "maxReplicas": 20}}, "more than 10000"),
        ({"serviceAccount": {"create": False}}, "which account"),
        ({"sidecar": True, "check": {"enabled": True}}, "check.enabled does nothing with sidecar"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"env": []}, "'env' not allowed"),
        ({"podMonitor": {"enabled": "yes"}}, "/podMonitor/enabled"),
        ({"prometheusRule": {"runbookUrl": "https://a/#b"}}, "runbookUrl"),
    ],
)
def test_a_wrong_value_is_refused_in_words(values: dict[str, Any], words: str) -> None:
    helm = pytest.importorskip("helm_python.errors", reason="the extra signalbus[deploy] is not installed")
    one = {} if not values or "tables" in values else {"app": "shop"}
    with pytest.raises(helm.HelmError, match=words):
        charted(one | values)


@pytest.mark.parametrize("name", sorted(path.name for path in (CHART / "ci").iterdir()))
def test_every_example_of_values_is_rendered_and_linted(name: str) -> None:
    chart = pytest.importorskip("helm_python.chart", reason="the extra signalbus[deploy] is not installed")
    values = yaml.safe_load((CHART / "ci" / name).read_text())
    assert chart.lint(CHART, values, strict=True)["errors"] == []
