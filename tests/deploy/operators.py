"""What the kinds of Prometheus' operator and of KEDA ask for, as far as we use them: these fields, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Shape = dict[str, Any]

METADATA = {"name": str, "labels?": dict}

RULE = {
    "alert?": str,
    "record?": str,
    "expr": str,
    "for?": str,
    "keep_firing_for?": str,
    "labels?": dict,
    "annotations?": dict,
}

SHAPES: dict[tuple[str, str], Shape] = {
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector": {"matchLabels": dict},
        "podMetricsEndpoints": [{"port": str, "path": str, "interval": str}],
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "groups": [{"name": str, "interval?": str, "rules": [RULE]}],
    },
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef": {"name": str, "kind?": str, "apiVersion?": str},
        "minReplicaCount": int,
        "maxReplicaCount": int,
        "pollingInterval": int,
        "fallback": {"failureThreshold": int, "replicas": int},
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": dict, "scaleDown": dict}}},
        # All metadata of a trigger is text.
        "triggers": [
            {
                "type": str,
                "metadata": {"serverAddress": str, "query": str, "threshold": str, "ignoreNullValues": str},
            }
        ],
    },
}


def problems(found: dict[str, Any]) -> list[str]:
    """What is wrong with an object of one of these kinds."""
    shape = {
        "apiVersion": str,
        "kind": str,
        "metadata": METADATA,
        "spec": SHAPES[found["apiVersion"], found["kind"]],
    }
    result: list[str] = []
    _compare(found, shape, found["kind"], result.append)
    return result


def _compare(value: Any, shape: Any, path: str, complain: Callable[[str], None]) -> None:
    if isinstance(shape, type):
        if not isinstance(value, shape):
            complain(f"{path}: {value!r} is no {shape.__name__}")
    elif isinstance(shape, list):
        for number, item in enumerate(value if isinstance(value, list) else [None]):
            _compare(item, shape[0], f"{path}[{number}]", complain)
    elif not isinstance(value, dict):
        complain(f"{path}: {value!r} is no object")
    else:
        allowed = {name.removesuffix("?"): inner for name, inner in shape.items()}
        for name in value.keys() - allowed.keys():
            complain(f"{path}.{name} is unknown")
        for name in {name for name in shape if not name.endswith("?")} - value.keys():
            complain(f"{path}.{name} is missing")
        for name in value.keys() & allowed.keys():
            _compare(value[name], allowed[name], f"{path}.{name}", complain)
