"""The endpoints for Kubernetes probes, Prometheus scrapes, and the status as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from ..telemetry.health import Health
from ..telemetry.metrics import CONTENT_TYPE, Metrics
from .app import Handler
from .http import Answer, Request, json_answer
from .status_report import Report


def monitoring_routes(health: Health, metrics: Metrics, report: Report) -> dict[str, Mapping[str, Handler]]:
    """The handlers of these paths."""

    def live(_request: Request) -> Answer:
        stalled = health.stalled()
        return json_answer({"alive": not stalled, "reasons": stalled}, _status(good=not stalled))

    def ready(_request: Request) -> Answer:
        readiness = health.readiness()
        return json_answer(readiness, _status(good=readiness["ready"]))

    def scrape(_request: Request) -> Answer:
        return Answer(metrics.render(), CONTENT_TYPE)

    def status(_request: Request) -> Answer:
        return json_answer(report.as_object())

    handlers = {"/livez": live, "/healthz": live, "/readyz": ready, "/metrics": scrape, "/api/status": status}
    return {path: {"GET": handler} for path, handler in handlers.items()}


def _status(*, good: bool) -> HTTPStatus:
    return HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
