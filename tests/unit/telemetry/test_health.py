"""Liveness is progress; readiness is whether signals can flow, with the reasons."""

from __future__ import annotations

import pytest

from relay.telemetry.health import Health
from tests.support.clock import Clock
from tests.support.recorder import ENDED, burst


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(stall_after_seconds=10, clock=clock)


def all_well(health: Health) -> None:
    health.relay_changed("running")
    health.set_database("up")
    health.broker_changed("worker-1", "up")


def test_a_thread_without_progress_makes_relay_dead_and_is_named(health: Health, clock: Clock) -> None:
    health.progressed("worker-1")
    health.progressed("worker-2")
    clock.now = 9
    health.progressed("worker-2")
    clock.now = 11
    assert health.stalled() == ["worker-1 has made no progress for 11 s"]


def test_a_dependency_that_is_away_never_makes_the_relay_dead(health: Health) -> None:
    health.set_database("down", "refused")
    health.broker_changed("worker-1", "down", "refused")
    assert health.stalled() == []


def test_relay_is_ready_when_it_runs_with_database_and_broker(health: Health) -> None:
    all_well(health)
    assert health.readiness()["ready"]
    assert health.readiness()["reasons"] == []


def test_before_anything_is_known_the_relay_is_not_ready(health: Health) -> None:
    assert not health.readiness()["ready"]
    assert len(health.readiness()["reasons"]) == 3


@pytest.mark.parametrize("condition", ["down", "blocked", "unknown"])
def test_an_unusable_broker_makes_it_unready_with_the_reason(health: Health, condition: str) -> None:
    all_well(health)
    health.broker_changed("worker-1", condition, "low on memory")  # type: ignore[arg-type]
    assert health.readiness()["reasons"] == [f"broker is {condition}: low on memory"]


def test_an_unreachable_database_makes_it_unready_with_reason(health: Health) -> None:
    all_well(health)
    health.set_database("down", "refused")
    assert health.readiness()["reasons"] == ["database is down: refused"]


def test_app_that_sends_in_its_own_way_is_ready_without_broker(health: Health) -> None:
    all_well(health)
    health.broker_changed("worker-1", "unused")
    assert health.readiness()["ready"]


def test_a_draining_relay_is_not_ready(health: Health) -> None:
    all_well(health)
    health.relay_changed("draining")
    assert health.readiness()["reasons"] == ["the relay is draining"]


def test_one_worker_with_a_connection_is_enough(health: Health) -> None:
    all_well(health)
    health.broker_changed("worker-2", "down", "refused")
    assert health.readiness()["ready"]
    health.broker_changed("worker-1", "blocked", "low on memory")
    assert health.readiness()["reasons"] == ["broker is blocked: low on memory"]


def test_pending_signals_of_which_none_is_sent_make_it_unready(clock: Clock) -> None:
    health = Health(stall_after_seconds=1000, clock=clock, flow_within_seconds=60)
    all_well(health)
    clock.now = 60
    assert health.readiness()["ready"]
    clock.now = 61
    assert health.readiness()["reasons"] == ["signals are pending, and none was sent for 61 s"]
    health.burst_ended("Order", burst(1), ENDED)
    assert health.readiness()["ready"]


def test_what_is_away_is_away_since_it_was_last_usable(clock: Clock) -> None:
    health = Health(10, clock, now=lambda: 1_800_000_000 + clock.now)
    all_well(health)
    clock.now = 10
    health.broker_changed("worker-1", "blocked", "low on memory")
    health.set_database("down", "refused")
    clock.now = 20
    health.broker_changed("worker-1", "down", "refused")
    health.set_database("down", "timeout")
    readiness = health.readiness()
    assert readiness["broker"] == {"condition": "down", "reason": "refused", "since": "2027-01-15T08:00:10Z"}
    assert readiness["database"] == {"condition": "down", "reason": "timeout", "since": "2027-01-15T08:00:10Z"}


def test_of_several_databases_the_earliest_that_is_still_away_tells_since_when(clock: Clock) -> None:
    health = Health(10, clock, now=lambda: 1_800_000_000 + clock.now, databases=2)

    def polled(at: float, database: str, error: str | None) -> str:
        clock.now = at
        health.database_polled(database, error)
        shown = health.readiness()["database"]
        return f"{shown['condition']} {shown['since'][-3:]} {shown['reason']}"

    assert polled(1, "A", None).startswith("unknown")
    assert polled(2, "B", None) == "up 02Z None"
    assert polled(10, "A", "refused") == "down 10Z A: refused"
    assert polled(20, "B", "timeout") == "down 10Z A: refused; B: timeout"
    assert polled(30, "A", None) == "down 20Z B: timeout"
    assert polled(40, "B", None) == "up 40Z None"
    assert health.database_at("A").since == 1_800_000_030


def test_database_that_is_back_hides_none_that_was_not_polled(clock: Clock) -> None:
    health = Health(10, clock, databases=2)
    health.database_polled("A", "refused")
    health.database_polled("A", None)
    assert health.database == "unknown"
    assert [health.database_at(name).condition for name in "AB"] == ["up", "unknown"]


def test_of_several_brokers_each_is_known_by_itself(health: Health) -> None:
    health.broker_changed("worker-1", "up", None, "here")
    health.broker_changed("worker-1", "down", "refused", "there")
    health.broker_changed("worker-2", "blocked", "low", "there")
    assert {name: known.condition for name, known in health.brokers().items()} == {"here": "up", "there": "blocked"}


def test_model_stuck_makes_it_unready_by_name_until_it_is_over(health: Health) -> None:
    all_well(health)
    health.model_stuck("Order", "hangs", "worker-1 has made no progress for 12 s")
    health.model_stuck("Order", "unreached", "locked")
    health.model_stuck("Order", "hangs", None)
    readiness = health.readiness()
    assert (readiness["ready"], readiness["reasons"]) == (False, ["Order: locked"])
    assert readiness["stuck_models"] == ["Order"]
    health.model_stuck("Order", "unreached", None)
    assert health.readiness()["ready"]
    assert health.readiness()["stuck_models"] == []


def test_a_thread_that_ended_as_it_should_is_not_missed(health: Health, clock: Clock) -> None:
    health.progressed("worker-3")
    health.broker_changed("worker-3", "up", None, "here")
    health.worker_retired("worker-3")
    clock.now = 100
    assert health.stalled() == []
    assert health.brokers() == {}
