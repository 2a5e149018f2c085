"""The events of the relay, and the listeners that hear them."""

from __future__ import annotations

import logging
import re

import pytest

from relay.telemetry.events import EVENTS, Events, FanOut, HeldHorizon
from relay.worker.plan import BurstDecision
from signalbus_core.lowlevel import BurstResult
from tests.support.clock import Clock
from tests.support.recorder import ENDED, Recorder, burst


def gauges(recorder: Recorder) -> dict[str, float]:
    found = re.findall(r"^(signalbus_\w+(?:{[^}]*})?) (\S+)$", recorder.metrics.render().decode(), re.MULTILINE)
    return {series: float(value) for series, value in found}


def test_event_reaches_those_who_heed_it_in_order() -> None:
    heard: list[tuple[str, str]] = []

    class Listener(Events):
        def __init__(self, name: str) -> None:
            self.name = name

        def progressed(self, thread: str) -> None:
            heard.append((self.name, thread))

    events = FanOut(Listener("first"), Events(), Listener("second"))
    events.progressed("worker-1")
    events.worker_retired("worker-1")
    assert heard == [("first", "worker-1"), ("second", "worker-1")]


def test_each_event_is_heeded_by_a_board() -> None:
    recorder = Recorder()
    listeners = (recorder.health, recorder.status, recorder.metrics, recorder.incidents)
    unheeded = [name for name in EVENTS if all(getattr(type(b), name) is getattr(Events, name) for b in listeners)]
    assert unheeded == []


def test_scrape_tells_what_page_and_readiness_tell() -> None:
    recorder = Recorder(["Order"])
    events = recorder.events
    events.relay_changed("running")
    events.broker_changed("worker-1", "blocked", "low on memory", "here")
    events.database_polled("Database", None, ["Order"], "doorbell")
    events.backlog_measured("Order", 7, 2.5)
    events.scheduled_counted("Order", 30)
    events.failed_counted("Order", 2, 1)
    events.model_paused("Order", "")
    events.horizon_held(None, HeldHorizon(("Order",), "a session", "End it.", 61.5))
    found = gauges(recorder)
    assert {name: found[name] for name in found if name.endswith(("_up", "_blocked"))} == {
        "signalbus_broker_up": 1,
        "signalbus_broker_blocked": 1,
        "signalbus_database_up": 1,
    }
    assert found['signalbus_relay_state{state="running"}'] == 1
    assert found['signalbus_backlog_signals{signal="Order"}'] == 7
    assert found['signalbus_lag_seconds{signal="Order"}'] == 2.5
    assert found['signalbus_scheduled_signals{signal="Order"}'] == 30
    assert found['signalbus_waiting_signals{signal="Order"}'] == 2
    assert found['signalbus_parked_signals{signal="Order"}'] == 1
    assert found['signalbus_paused{signal="Order"}'] == 1
    assert found["signalbus_horizon_held_seconds"] == 61.5
    assert found['signalbus_wakeups_total{cause="doorbell"}'] == 1

    events.model_paused("Order", None)
    events.horizon_held(None, None)
    events.broker_changed("worker-1", "down", "gone", "here")
    events.database_polled("Database", "refused")
    found = gauges(recorder)
    assert found['signalbus_paused{signal="Order"}'] == 0
    assert found["signalbus_horizon_held_seconds"] == 0
    assert (found["signalbus_broker_up"], found["signalbus_database_up"]) == (0, 0)
    assert "database is down: refused" in recorder.health.readiness()["reasons"]


def test_burst_is_told_once_and_stands_on_each_board(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "test.events")
    clock = Clock(100.0)
    recorder = Recorder(["Order"], clock, "test.events", flow_within_seconds=60)
    recorder.events.relay_changed("running")
    recorder.events.broker_changed("worker-1", "up")
    recorder.health.set_database("up")
    clock.now += 61
    assert not recorder.health.readiness()["ready"]
    recorder.events.burst_ended("Order", burst(5), BurstDecision(more=True))
    assert recorder.health.readiness()["ready"]
    assert recorder.status.models()[0].sent == 5
    assert gauges(recorder)['signalbus_signals_sent_total{signal="Order"}'] == 5
    assert gauges(recorder)['signalbus_wakeups_total{cause="catchup"}'] == 1
    recorder.events.burst_ended("Order", BurstResult(selected=1), BurstDecision(more=False, problem="1 of 1 not sent"))
    assert recorder.incidents.lasting()["Order"].reason == "1 of 1 not sent"
    recorder.events.burst_ended("Order", burst(1), ENDED)
    assert "Order" in recorder.incidents.lasting()
    recorder.events.burst_ended("Order", burst(1), BurstDecision(more=False, recovered=True))
    assert recorder.incidents.lasting() == {}
    assert [one.__dict__["action"] for one in caplog.records] == ["model_failing", "model_recovered"]
    assert [name for name, *_ in recorder.told].count("burst_ended") == 4


def test_broker_sought_for_first_time_is_no_incident() -> None:
    recorder = Recorder()
    recorder.events.broker_connecting("worker-1", "not connected yet", "here")
    assert recorder.health.brokers()["here"].condition == "down"
    assert recorder.incidents.lasting() == {}
    recorder.events.broker_changed("worker-1", "down", "refused", "here")
    assert recorder.incidents.lasting()["Broker here"].action == "broker_down"
