"""Every series from the first scrape, and counts of what was committed."""

from __future__ import annotations

import re

import pytest

from relay.telemetry.health import Health
from relay.telemetry.metrics import Metrics
from relay.worker.plan import BurstDecision
from signalbus_core import Outcome, OutcomeKind, PublishError
from signalbus_core.lowlevel import BurstResult, FailedSignal
from tests.support.recorder import ENDED


@pytest.fixture
def health() -> Health:
    return Health(60)


@pytest.fixture
def metrics(health: Health) -> Metrics:
    metrics = Metrics(now=lambda: 1000.0, health=health)
    metrics.prepare(["A", "B"])
    return metrics


def value(metrics: Metrics, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics.render().decode(), re.MULTILINE)
    assert found, f"no series {series}"
    return float(found[1])


def names(metrics: Metrics) -> set[str]:
    return set(re.findall(r"^(signalbus_\w+(?:\{[^}]*\})?) ", metrics.render().decode(), re.MULTILINE))


def test_every_series_is_there_before_anything_happened(metrics: Metrics, health: Health) -> None:
    before = names(metrics)
    metrics.burst_ended(
        "A",
        BurstResult(
            selected=6,
            sent=1,
            failed=tuple(
                FailedSignal((1,), Outcome(OutcomeKind.REFUSED, "", cause=cause))
                for cause in ("returned", "nacked", "refused", "invalid", "unknown", "error")
            ),
        ),
        BurstDecision(more=True),
    )
    metrics.burst_interrupted("B", ENDED, 3)
    metrics.database_polled("Database", None, ["B"], "doorbell")
    health.relay_changed("draining")
    assert names(metrics) == before
    assert value(metrics, 'signalbus_signals_sent_total{signal="B"}') == 0


def test_sent_signals_are_counted(metrics: Metrics) -> None:
    metrics.burst_ended(
        "A", BurstResult(selected=5, sent=5, lock_seconds=0.1, send_seconds=0.2, commit_seconds=0.3), ENDED
    )
    assert value(metrics, 'signalbus_signals_sent_total{signal="A"}') == 5
    assert value(metrics, 'signalbus_bursts_total{outcome="sent",signal="A"}') == 1
    assert value(metrics, 'signalbus_burst_size_sum{signal="A"}') == 5
    assert value(metrics, 'signalbus_burst_duration_seconds_sum{phase="send",signal="A"}') == 0.2
    assert value(metrics, 'signalbus_last_success_timestamp_seconds{signal="A"}') == 1000


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (BurstResult(selected=0), "empty"),
        (BurstResult(selected=2, sent=2), "sent"),
        (BurstResult(selected=2, sent=1), "partial"),
        (BurstResult(selected=2, sent=0), "failed"),
    ],
)
def test_bursts_are_counted_by_what_became_of_them(metrics: Metrics, result: BurstResult, outcome: str) -> None:
    metrics.burst_ended("A", result, ENDED)
    assert value(metrics, f'signalbus_bursts_total{{outcome="{outcome}",signal="A"}}') == 1


def test_failure_that_told_nothing_counts_all_signals_as_errors(metrics: Metrics) -> None:
    metrics.burst_ended("A", BurstResult(selected=7, error=ValueError("bad")), ENDED)
    assert value(metrics, 'signalbus_publish_failures_total{reason="error",signal="A"}') == 7


def test_signals_without_an_answer_may_be_duplicates(metrics: Metrics) -> None:
    failed = FailedSignal((1,), Outcome(OutcomeKind.UNKNOWN, "no answer"))
    metrics.burst_ended("A", BurstResult(selected=1, failed=(failed,)), ENDED)
    metrics.burst_interrupted("A", ENDED, possible_duplicates=4)
    assert value(metrics, 'signalbus_possible_duplicates_total{signal="A"}') == 5


def test_messages_of_a_whole_burst_that_may_be_stored_are_possible_duplicates(metrics: Metrics) -> None:
    outcomes = [
        Outcome(OutcomeKind.ACKED),
        Outcome(OutcomeKind.UNKNOWN, "no answer"),
        Outcome(OutcomeKind.UNKNOWN, "no time was left", was_sent=False),
        Outcome(OutcomeKind.REFUSED, "no route"),
    ]
    metrics.burst_ended("A", BurstResult(selected=4, error=PublishError(outcomes)), ENDED)
    assert value(metrics, 'signalbus_possible_duplicates_total{signal="A"}') == 2
    metrics.burst_ended("A", BurstResult(selected=3, error=PublishError(outcomes[:2] * 3)), ENDED)
    assert value(metrics, 'signalbus_possible_duplicates_total{signal="A"}') == 5


def test_signals_that_were_never_sent_cannot_be_duplicates(metrics: Metrics) -> None:
    failed = FailedSignal((1,), Outcome(OutcomeKind.UNKNOWN, "no time was left", was_sent=False))
    metrics.burst_ended("A", BurstResult(selected=1, failed=(failed,)), ENDED)
    assert value(metrics, 'signalbus_possible_duplicates_total{signal="A"}') == 0
    assert value(metrics, 'signalbus_publish_failures_total{reason="unknown",signal="A"}') == 1


def test_exactly_one_state_is_set(metrics: Metrics, health: Health) -> None:
    health.relay_changed("running")
    states = {
        state: value(metrics, f'signalbus_relay_state{{state="{state}"}}')
        for state in ("starting", "running", "draining")
    }
    assert states == {"starting": 0, "running": 1, "draining": 0}
