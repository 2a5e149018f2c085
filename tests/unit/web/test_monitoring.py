"""What machines ask for: health, metrics and the status, and what all answers have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint

from relay.config.options import OPTIONS
from relay.poller.backlog_meter import MEASURE_EVERY_SECONDS
from relay.poller.diagnosis.vacuum_horizon import ACTIVE_SECONDS
from relay.poller.interval import PollInterval
from relay.telemetry.health import Health
from relay.telemetry.incidents import Incidents, single_signals
from relay.telemetry.metrics import Metrics
from relay.telemetry.status import HeldHorizon, Status
from relay.web.app import create_app
from relay.web.auth import Guard
from relay.web.health_routes import health_routes
from relay.web.status_report import ShownDatabase, StatusReport
from tests.support.clock import Clock
from tests.support.recorder import ENDED, burst
from tests.support.web import call


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    health = Health(10, clock, now=lambda: 1_800_000_000 + clock.now, databases=2)
    health.progressed("worker-1")
    health.relay_changed("running")
    health.set_database("up")
    health.broker_changed("worker-1", "up", None, "amqp://rabbit/")
    return health


@pytest.fixture
def status(clock: Clock) -> Status:
    return Status(["Order", "Invoice"], clock, now=lambda: 1_800_000_000 + clock.now)


@pytest.fixture
def incidents(clock: Clock) -> Incidents:
    return Incidents(logging.getLogger("test"), clock, now=lambda: 1_800_000_000 + clock.now)


@pytest.fixture
def site(health: Health, status: Status, incidents: Incidents) -> Callable[..., Any]:
    databases = [
        ShownDatabase(None, "Database", "db/shop"),
        ShownDatabase("sales", "Database (bind 'sales')", "db/sales"),
    ]
    report = StatusReport(status, health, incidents, databases)
    return create_app([health_routes(health, Metrics(), report)], Guard(None))


def status_of(site: Callable[..., Any]) -> dict[str, Any]:
    reply = call(site, "/api/status")
    assert reply.status == 200
    found: dict[str, Any] = reply.json
    return found


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/metrics", "/api/status"])
def test_every_page_answers_200_with_safe_headers(site: Callable[..., Any], path: str) -> None:
    reply = call(site, path)
    assert reply.status == 200
    assert reply.text
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-frame-options"] == "DENY"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert int(reply.headers["content-length"]) == len(reply.text.encode())


def test_liveness_fails_with_the_stuck_thread(site: Callable[..., Any], clock: Clock) -> None:
    clock.now = 60
    for path in ("/livez", "/healthz"):
        reply = call(site, path)
        assert reply.status == 503
        assert "worker-1" in reply.json["reasons"][0]


def test_readiness_fails_with_the_reason_while_liveness_does_not(site: Callable[..., Any], health: Health) -> None:
    health.broker_changed("worker-1", "down", "refused", "amqp://rabbit/")
    reply = call(site, "/readyz")
    assert reply.status == 503
    assert reply.json["reasons"] == ["broker is down: refused"]
    assert call(site, "/livez").status == 200


def test_metrics_are_in_prometheus_text_format(site: Callable[..., Any]) -> None:
    reply = call(site, "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE signalbus_relay_state gauge" in reply.text


@pytest.mark.parametrize("path", ["/nothing", "/livez/", "/../etc/passwd", "/metrics/x", "/api//status", "", "/api"])
def test_other_paths_are_not_found(site: Callable[..., Any], path: str) -> None:
    assert call(site, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(site: Callable[..., Any], method: str) -> None:
    reply = call(site, "/readyz", method)
    assert (reply.status, set(reply.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


def test_head_answers_without_a_body(site: Callable[..., Any]) -> None:
    reply = call(site, "/readyz", "HEAD")
    assert (reply.status, reply.text) == (200, "")
    assert int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize("debug", ["0", "1"])
def test_error_inside_shows_sentence_and_its_traceback_is_logged(
    debug: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The variable is meant for the application.
    monkeypatch.setenv("FLASK_DEBUG", debug)
    routes = Blueprint("failing", __name__)

    @routes.get("/api/x")
    def fail() -> str:
        raise ValueError("amqp://user:secret@rabbit/")

    reply = call(create_app([routes], Guard(None)), "/api/x")
    assert reply.status == 500
    assert reply.json == {"error": "The relay's log tells what failed."}
    assert "Traceback" in caplog.text


def test_the_verdict_is_that_signals_flow(site: Callable[..., Any]) -> None:
    assert status_of(site)["verdict"] == {
        "level": "flowing",
        "text": "Signals flow.",
        "notes": [],
        "to_do": None,
        "runbook": None,
    }


def test_the_verdict_says_since_when_the_broker_is_away(site: Callable[..., Any], health: Health, clock: Clock) -> None:
    clock.now = 120
    health.progressed("worker-1")
    health.broker_changed("worker-1", "down", "refused", "amqp://rabbit/")
    clock.now = 125
    health.broker_changed("worker-1", "down", "refused again", "amqp://rabbit/")
    shown = status_of(site)
    assert shown["verdict"]["level"] == "stopped"
    assert shown["verdict"]["text"] == "Signals cannot flow: the broker is away since 08:02 UTC: refused again."
    assert shown["brokers"] == [
        {
            "location": "amqp://rabbit/",
            "nodes": [],
            "condition": "down",
            "since": "2027-01-15T08:02:00Z",
            "reason": "refused again",
        }
    ]


def test_a_broker_that_is_back_is_away_no_more(site: Callable[..., Any], health: Health) -> None:
    health.broker_changed("worker-1", "down", "refused", "amqp://rabbit/")
    health.broker_changed("worker-1", "up", None, "amqp://rabbit/")
    [broker] = status_of(site)["brokers"]
    assert (broker["condition"], broker["since"]) == ("up", None)


def test_each_database_is_shown_with_its_own_trouble(site: Callable[..., Any], health: Health) -> None:
    health.database_polled("Database (bind 'sales')", "refused")
    shop, sales = status_of(site)["databases"]
    assert (shop["condition"], sales["condition"]) == ("unknown", "down"), "one was never polled"
    health.database_polled("Database", None)
    shop, sales = status_of(site)["databases"]
    assert (shop["condition"], shop["reason"]) == ("up", None)
    assert (sales["condition"], sales["reason"], sales["location"]) == ("down", "refused", "db/sales")
    text = "Signals cannot flow: the database is away since 08:00 UTC: Database (bind 'sales'): refused."
    assert status_of(site)["verdict"]["text"] == text


def test_a_model_shows_what_was_sent_and_measured(site: Callable[..., Any], status: Status, clock: Clock) -> None:
    status.burst_ended("Order", burst(150), ENDED)
    status.backlog_measured("Order", 10_000, 61.04)
    status.failed_counted("Order", 2, 1)
    clock.now = 6
    shown = status_of(site)
    order, invoice = shown["models"]
    assert (order["backlog"], order["backlog_counted_to"], order["lag_seconds"]) == (10_000, 10_000, 61.0)
    assert (order["waiting"], order["parked"], order["sent"], order["per_second"]) == (2, 1, 150, 10.0)
    assert order["chart"]["counts"][-1] == 150
    assert order["last_sent_at"] == shown["relay"]["last_success_at"] == "2027-01-15T08:00:00Z"
    assert invoice["last_sent_at"] is None
    assert shown["verdict"]["level"] == "attention"
    assert shown["verdict"]["text"] == "Signals of Order are behind: 10,000 signals or more are pending."
    assert shown["verdict"]["notes"] == [
        "Order: 1 signal is parked, waiting for a person.",
        "Order: 2 signals are waiting for the next try.",
    ]


def test_last_error_of_a_model_stays_when_its_trouble_is_over(
    site: Callable[..., Any], incidents: Incidents, clock: Clock
) -> None:
    incidents.raised(single_signals("Order"), "signals_set_aside", "1 cannot be sent", signal="Order")
    order, invoice = status_of(site)["models"]
    assert order["troubles"] == [{"since": "2027-01-15T08:00:00Z", "reason": "1 cannot be sent"}]
    assert status_of(site)["verdict"]["level"] == "flowing", "what fails is told of once it was counted"
    incidents.resolved(single_signals("Order"), "signals_flow_again")
    order, invoice = status_of(site)["models"]
    assert order["troubles"] == []
    assert order["last_error"] == {"at": "2027-01-15T08:00:00Z", "reason": "1 cannot be sent"}
    assert invoice["last_error"] is None
    assert status_of(site)["verdict"]["level"] == "flowing"


def test_workers_are_shown_with_what_they_do(site: Callable[..., Any], status: Status, clock: Clock) -> None:
    status.worker_changed("worker-1", "sending", "Order", 50)
    clock.now = 2.5
    assert status_of(site)["workers"] == [
        {"name": "worker-1", "doing": "sending", "model": "Order", "signals": 50, "seconds": 2.5}
    ]


def test_passwords_in_reasons_are_not_shown(site: Callable[..., Any], health: Health, incidents: Incidents) -> None:
    text = "amqp://user:s3cret@rabbit/ refused"
    health.broker_changed("worker-1", "down", text, "amqp://rabbit/")
    health.database_polled("Database", text)
    incidents.raised("Order", "model_failing", text, signal="Order")
    for path in ("/readyz", "/api/status"):
        reply = call(site, path)
        assert "refused" in reply.text
        assert "s3cret" not in reply.text


def test_held_horizon_is_told_with_who_holds_it_and_what_ends_it(site: Callable[..., Any], status: Status) -> None:
    status.horizon_held(None, HeldHorizon(("Order", "Invoice"), "session with pid 7", "End it.", 61.04))
    shown = status_of(site)
    assert [one["horizon"] for one in shown["databases"]] == [
        {"models": ["Order", "Invoice"], "holder": "session with pid 7", "remedy": "End it.", "seconds": 61.0},
        None,
    ]
    assert shown["verdict"]["notes"] == [
        "Dead rows of Order, Invoice cannot be removed. They are kept alive by: session with pid 7. End it."
    ]
    assert shown["verdict"]["level"] == "attention"
    status.horizon_held(None, None)
    assert status_of(site)["verdict"]["level"] == "flowing"


def test_single_signals_told_once_beside_trouble_of_model(
    site: Callable[..., Any], status: Status, incidents: Incidents
) -> None:
    incidents.raised(single_signals("Order"), "signals_set_aside", "1 cannot be sent", signal="Order")
    assert status_of(site)["verdict"]["notes"] == []
    status.failed_counted("Order", 0, 1)
    parked = "Order: 1 signal is parked, waiting for a person."
    assert status_of(site)["verdict"]["notes"] == [parked]
    incidents.raised("Order", "model_failing", "no table", signal="Order")
    assert status_of(site)["verdict"]["notes"] == [parked]
    assert status_of(site)["verdict"]["text"] == "Signals of Order fail since 08:00 UTC: no table."


def test_whoever_is_on_call_is_told_within_five_seconds() -> None:
    poll = next(option.default for option in OPTIONS if option.name == "poll-interval")
    longest_pause = PollInterval(poll, uniform=lambda _low, high: high).next_seconds(active=False)
    assert MEASURE_EVERY_SECONDS + longest_pause < 5
    assert ACTIVE_SECONDS + longest_pause < 5


def test_the_verdict_names_models_that_are_stuck(site: Callable[..., Any], health: Health) -> None:
    health.model_stuck("Order", "unreached", "1 signal is pending that no burst gets")
    assert call(site, "/readyz").json["reasons"] == ["Order: 1 signal is pending that no burst gets"]
    verdict = status_of(site)["verdict"]
    assert verdict["text"] == "Signals of Order do not flow since 08:00 UTC: 1 signal is pending that no burst gets."
    assert (verdict["level"], verdict["notes"]) == ("stopped", [])
    health.set_database("down", "refused")
    assert status_of(site)["verdict"]["text"].startswith("Signals cannot flow: the database is away")


def test_a_lag_that_is_long_is_no_plain_flow(site: Callable[..., Any], status: Status) -> None:
    status.backlog_measured("Order", 3, 96.0)
    verdict = status_of(site)["verdict"]
    assert (verdict["level"], verdict["notes"]) == ("attention", [])
    assert verdict["text"] == "Signals of Order are behind: the oldest signal has been waiting for 96 s."
