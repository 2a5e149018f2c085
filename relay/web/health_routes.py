"""The endpoints for Kubernetes probes, Prometheus scrapes, and the status as JSON."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from ..telemetry.health import Health
from ..telemetry.metrics import CONTENT_TYPE, Metrics
from .status_report import StatusReport


def health_routes(health: Health, metrics: Metrics, report: StatusReport) -> Blueprint:
    routes = Blueprint("health", __name__)

    @routes.get("/livez")
    @routes.get("/healthz")
    def live() -> tuple[dict[str, Any], int]:
        stalled = health.stalled()
        return {"alive": not stalled, "reasons": stalled}, 503 if stalled else 200

    @routes.get("/readyz")
    def ready() -> tuple[dict[str, Any], int]:
        readiness = health.readiness()
        return readiness, 200 if readiness["ready"] else 503

    @routes.get("/metrics")
    def scrape() -> Response:
        return Response(metrics.render(), content_type=CONTENT_TYPE)

    @routes.get("/api/status")
    def status() -> dict[str, Any]:
        return report.as_object()

    return routes
