"""For each thing that goes wrong at night: page, `/readyz`, metrics and log tell the same, why now, and since when."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from relay.telemetry.events import Events
from relay.telemetry.states import STATES, Cause, ModelFacts, failure_of_signals, state_of
from relay.web.app import create_app
from relay.web.auth import Guard
from relay.web.health_routes import health_routes
from relay.web.status_report import ShownDatabase, StatusReport
from relay.worker.plan import BurstDecision
from signalbus_core import Outcome, OutcomeKind
from signalbus_core.lowlevel import BurstResult, FailedSignal
from tests.support.clock import Clock
from tests.support.recorder import ENDED, Recorder, burst
from tests.support.web import call

BROKER = "amqp://rabbit/"


class Night:
    """A relay of two models and two workers, to which things happen."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.recorder = Recorder(["Order", "Invoice"], self.clock, logger="night")
        self.events: Events = self.recorder.events
        report = StatusReport(
            self.recorder.status, self.recorder.health, self.recorder.incidents, [ShownDatabase(None, "Database", "db")]
        )
        routes = health_routes(self.recorder.health, self.recorder.metrics, report)
        self.site: Flask = create_app([routes], Guard(None, (), is_local=True))
        self.events.relay_changed("running")
        for worker in ("worker-1", "worker-2"):
            self.events.broker_changed(worker, "up", None, BROKER)
        self.poll()

    def poll(self, **backlogs: tuple[int, float]) -> None:
        self.events.database_polled("Database", None, list(backlogs))
        for name in ("Order", "Invoice"):
            backlog, lag_seconds = backlogs.get(name, (0, 0.0))
            self.events.backlog_measured(name, backlog, lag_seconds)

    def fail(self, number: int) -> None:
        """A burst of new orders that all are returned."""
        outcome = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
        failed = tuple(FailedSignal((n,), outcome) for n in range(number))
        self.events.burst_ended("Order", BurstResult(selected=number, failed=failed), ENDED)

    @property
    def status(self) -> dict[str, Any]:
        return dict(call(self.site, "/api/status").json)

    @property
    def headline(self) -> str:
        return str(self.status["verdict"]["text"])

    @property
    def ready(self) -> dict[str, Any]:
        return dict(call(self.site, "/readyz").json)

    def state(self, name: str = "Order") -> str | None:
        """The word for a model, which page, readiness and metrics agree on."""
        [shown] = [model["state"] for model in self.status["models"] if model["name"] == name]
        assert self.ready["models"][name]["state"] == shown
        told = [state for state in STATES if self.metric("signalbus_model_state", signal=name, state=state)]
        assert told == ([] if shown is None else [shown])
        return shown

    def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(call(self.site, "/metrics").text)
        return next(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def night() -> Night:
    return Night()


def test_nothing_is_wrong(night: Night) -> None:
    assert (night.headline, night.state(), night.ready["ready"]) == ("Signals flow.", "idle", True)
    night.poll(Order=(100, 0.1))
    assert night.state() == "flowing"
    night.events.burst_ended("Order", burst(100), ENDED)
    night.clock.now += 6
    night.poll()
    assert night.state() == "idle", "commands see an empty table as well"


def test_an_alarm_blocks_all_models_at_once(night: Night) -> None:
    night.events.worker_changed("worker-1", "sending", "Order", 50)
    night.events.broker_changed("worker-1", "blocked", "low on disk", BROKER)
    night.poll(Order=(350, 0.2))
    assert night.headline.startswith("Signals cannot flow: the broker takes no messages since ")
    assert night.headline.endswith("low on disk.")
    assert night.ready["reasons"] == ["broker is blocked: low on disk"]
    assert night.state() == night.state("Invoice") == "blocked"
    assert night.metric("signalbus_broker_blocked") == 1
    # It is the broker that keeps a burst waiting, not its send method.
    night.events.model_stuck("Order", "hangs", "worker-1 has made no progress for 12 s")
    assert night.ready["models"]["Order"]["reason"] == "the broker takes no messages: low on disk"
    night.events.model_stuck("Order", "hangs", None)
    night.events.broker_changed("worker-1", "up", None, BROKER)
    assert (night.headline, night.state()) == ("Signals flow.", "flowing")


def test_after_a_change_of_password_the_login_is_the_reason(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "night")
    for worker in ("worker-1", "worker-2"):
        night.events.broker_changed(worker, "down", "closed by the broker: 320 CONNECTION_FORCED", BROKER)
    since = night.ready["broker"]["since"]
    night.clock.now += 2
    night.events.broker_changed("worker-2", "down", "the login was refused", BROKER)
    for _ in range(5):
        night.clock.now += 1
        night.events.broker_changed("worker-1", "down", "closed by the broker: 320 CONNECTION_FORCED", BROKER)
        night.events.broker_changed("worker-2", "down", "the login was refused", BROKER)
    assert night.headline.endswith(": the login was refused.")
    assert night.ready["reasons"] == ["broker is down: the login was refused"]
    assert night.ready["broker"]["since"] == since
    assert night.status["brokers"][0]["reason"] == "the login was refused"
    assert night.state() == "blocked"
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "320 CONNECTION_FORCED",
        "the login was refused",
    ]


def test_a_model_of_which_everything_fails_is_in_the_headline(night: Night) -> None:
    night.fail(50)
    night.poll(Order=(52, 0.5))
    night.events.failed_counted("Order", 50, 0)
    why = "returned: 312 NO_ROUTE (50 of 52 signals have failed)"
    assert night.headline.startswith("Signals of Order fail since ")
    assert night.headline.endswith(f" UTC: {why}.")
    assert (night.state(), night.ready["models"]["Order"]["reason"]) == ("failing", why)
    assert night.status["verdict"]["to_do"].startswith("Bind a queue to the exchange")
    assert night.status["verdict"]["level"] == "stopped"
    assert night.state("Invoice") == "idle"
    night.events.burst_ended("Order", burst(2), BurstDecision(more=False))
    assert (night.headline, night.state()) == ("Signals flow, with exceptions.", "flowing")


def test_one_bad_signal_among_good_ones_is_an_exception(night: Night) -> None:
    for _ in range(3):
        night.events.burst_ended("Order", burst(10), ENDED)
        night.fail(1)
        night.poll(Order=(1, 0.0))
        night.events.failed_counted("Order", 1, 0)
        assert (night.headline, night.state()) == ("Signals flow, with exceptions.", "idle")


def test_a_parked_signal_waits_for_a_person_and_fails_no_model(night: Night) -> None:
    night.events.burst_ended("Order", burst(100), ENDED)
    night.clock.now += 6
    night.fail(1)
    night.poll(Order=(1, 0.0))
    night.events.failed_counted("Order", 0, 1)
    assert (night.headline, night.state()) == ("Signals flow, with exceptions.", "idle")
    assert night.status["verdict"]["notes"] == ["Order: 1 signal is parked, waiting for a person."]


def test_what_cannot_be_read_is_unknown_and_not_0(night: Night) -> None:
    night.poll(Order=(7, 1.0))
    night.events.failed_counted("Order", 2, 0)
    night.events.model_unread("Order", "its table is locked by the session with pid 7", is_alone=True)
    [order] = [model for model in night.status["models"] if model["name"] == "Order"]
    assert [order[name] for name in ("backlog", "lag_seconds", "waiting", "parked")] == [None] * 4
    for name in ("signalbus_backlog_signals", "signalbus_lag_seconds", "signalbus_waiting_signals"):
        assert math.isnan(night.metric(name, signal="Order"))
        assert night.metric(name, signal="Invoice") == 0
    assert night.headline.startswith("Signals of Order do not flow since ")
    assert night.headline.endswith(" UTC: its table is locked by the session with pid 7.")
    assert night.state() == "blocked"
    assert night.ready["reasons"] == ["Order: its table is locked by the session with pid 7"]
    night.events.model_unread("Order", None, is_alone=True)
    assert (night.state(), night.ready["ready"]) == (None, True)
    night.poll(Order=(7, 1.0))
    assert night.state() == "flowing"


def test_a_database_that_is_away_is_told_once(night: Night) -> None:
    night.events.database_polled("Database", "connection refused")
    for name in ("Order", "Invoice"):
        night.events.model_unread(name, "connection refused", is_alone=False)
    assert night.headline.endswith("connection refused.")
    assert night.ready["reasons"] == ["database is down: connection refused"]
    assert night.state() == night.state("Invoice") == "blocked"


@pytest.mark.parametrize(
    ("tell", "word", "level"),
    [
        (lambda night: night.poll(Order=(3, 96.0)), "behind", "attention"),
        (lambda night: night.poll(Order=(10_000, 1.0)), "behind", "attention"),
        (lambda night: night.events.model_paused("Order", "moving"), "paused", "attention"),
        (lambda night: night.events.model_stuck("Order", "unreached", "it is locked"), "blocked", "stopped"),
    ],
)
def test_headline_is_as_bad_as_the_state(night: Night, tell: Callable[[Night], object], word: str, level: str) -> None:
    tell(night)
    assert (night.state(), night.status["verdict"]["level"]) == (word, level)


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (ModelFacts(), None),
        (ModelFacts(backlog=0), "idle"),
        (ModelFacts(backlog=686, waiting=684), "failing"),
        (ModelFacts(backlog=686, waiting=684, is_sending=True), "flowing"),
        (ModelFacts(backlog=5, is_sending=False), "behind"),
        (ModelFacts(backlog=5, is_sending=True), "flowing"),
        (ModelFacts(backlog=5, obstacle=Cause("no relay")), "blocked"),
        (ModelFacts(backlog=5, obstacle=Cause("no relay"), pause=Cause("")), "paused"),
        (ModelFacts(backlog=1, waiting=1, failure=failure_of_signals("invalid", "", 0)), "idle"),
        (ModelFacts(backlog=1, waiting=1, failure=failure_of_signals("returned", "", 0)), "failing"),
        (ModelFacts(backlog=90, waiting=1, failure=failure_of_signals("returned", "", 0)), "flowing"),
        (ModelFacts(backlog=9, waiting=2, failure=failure_of_signals("returned", "", 0), is_sending=False), "failing"),
        (ModelFacts(backlog=5, parked=5), "idle"),
    ],
)
def test_the_same_facts_give_the_same_word(facts: ModelFacts, word: str | None) -> None:
    assert state_of(facts).word == word


@pytest.mark.parametrize("error_class", ["returned", "invalid"])
@pytest.mark.parametrize(("backlog", "waiting", "parked"), [(0, 0, 0), (1, 1, 0), (1, 0, 1), (3, 2, 1), (9, 8, 0)])
def test_relay_whose_last_tries_failed_and_command_agree(
    backlog: int, waiting: int, parked: int, error_class: str
) -> None:
    failure = failure_of_signals(error_class, "", 0)
    facts = ModelFacts(backlog=backlog, waiting=waiting, parked=parked, failure=failure)
    watched = facts if not facts.pending else replace(facts, is_sending=False)
    assert state_of(replace(facts, is_failing=True)).word == state_of(watched).word
