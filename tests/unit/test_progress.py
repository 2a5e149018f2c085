"""What follows from a burst: outages, failures of single signals, halving."""

from __future__ import annotations

from typing import Any

import pytest

from relay.pacing import Backoff
from relay.parking import Parking
from relay.progress import ModelProgress
from signalbus_core import BurstError, BurstResult, FailedSignal, Outcome, OutcomeKind, SignalSpec

UNKNOWN = Outcome(OutcomeKind.UNKNOWN, "no answer")
REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
INVALID = Outcome(OutcomeKind.INVALID, "routing key too long")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")


def highest(_low: float, high: float) -> float:
    return high


@pytest.fixture
def progress() -> ModelProgress:
    spec = SignalSpec(model=object, name="S", burst_count=8, bind_key=None, send_one=print, send_many=None)
    return ModelProgress(spec, Backoff(0.2, 30.0, highest), Parking(Backoff(1.0, 60.0, highest)))


def result(selected: int, sent: int = 0, *failed: tuple[Any, Outcome], error: Exception | None = None) -> BurstResult:
    return BurstResult(
        selected=selected,
        sent=sent,
        failed=tuple(FailedSignal((key,), outcome) for key, outcome in failed),
        error=error,
    )


def test_a_full_burst_is_followed_at_once(progress: ModelProgress) -> None:
    verdict = progress.finished(progress.plan(0.0), result(8, 8), now=0.0)
    assert verdict.more
    assert verdict.wait_seconds == 0.0
    assert verdict.trouble is None


def test_a_burst_that_was_not_full_ends_the_turn(progress: ModelProgress) -> None:
    assert not progress.finished(progress.plan(0.0), result(7, 7), now=0.0).more


def test_an_outage_waits_costs_no_attempt_and_goes_on_with_one_signal(progress: ModelProgress) -> None:
    verdict = progress.finished(progress.plan(0.0), result(2, 0, (1, UNKNOWN), (2, UNKNOWN)), now=0.0)
    assert not verdict.more
    assert verdict.wait_seconds > 0
    assert progress.waiting_keys(now=0.0) == []
    assert progress.plan(0.0).limit == 1


def test_outages_wait_longer_each_time_until_something_is_sent(progress: ModelProgress) -> None:
    outage = result(1, 0, (1, UNKNOWN))
    waits = [progress.finished(progress.plan(0.0), outage, now=0.0).wait_seconds for _ in range(3)]
    assert waits == [0.4, 0.8, 1.6]
    progress.finished(progress.plan(0.0), result(1, 1), now=0.0)
    assert progress.finished(progress.plan(0.0), outage, now=0.0).wait_seconds == 0.4


def test_after_an_outage_bursts_grow_back_to_the_burst_count(progress: ModelProgress) -> None:
    progress.finished(progress.plan(0.0), result(1, 0, (1, UNKNOWN)), now=0.0)
    limits = []
    for _ in range(5):
        plan = progress.plan(0.0)
        limits.append(plan.limit)
        progress.finished(plan, result(plan.limit, plan.limit), now=0.0)
    assert limits == [1, 2, 4, 8, 8]


@pytest.mark.parametrize("outcome", [REFUSED, INVALID])
def test_a_signal_that_failed_alone_waits_while_its_model_goes_on(progress: ModelProgress, outcome: Outcome) -> None:
    verdict = progress.finished(progress.plan(0.0), result(8, 7, (3, outcome)), now=0.0)
    assert verdict.more
    assert verdict.wait_seconds == 0.0
    assert progress.plan(0.0).exclude == ((3,),)
    assert progress.plan(1000.0).exclude == ()


def test_a_burst_that_failed_as_a_whole_is_halved_down_to_one_signal(progress: ModelProgress) -> None:
    limits = []
    for _ in range(4):
        plan = progress.plan(0.0)
        limits.append(plan.limit)
        if plan.limit > 1:
            verdict = progress.finished(plan, result(plan.limit, error=ValueError("bad")), now=0.0)
            assert verdict.more
    assert limits == [8, 4, 2, 1]

    verdict = progress.finished(progress.plan(0.0), result(1, 0, (5, RAISED), error=ValueError("bad")), now=0.0)

    assert verdict.wait_seconds > 0
    assert progress.plan(0.0).exclude == ((5,),)


def test_a_database_error_waits_and_goes_on_with_one_rehearsed_signal(progress: ModelProgress) -> None:
    progress.finished(progress.plan(0.0), result(8, 8), now=0.0)
    assert not progress.plan(0.0).rehearse

    verdict = progress.interrupted(BurstError("signals were sent and could not be deleted", sent=8))

    assert verdict.wait_seconds > 0
    assert verdict.trouble == "signals were sent and could not be deleted"
    assert progress.plan(0.0).rehearse
    assert progress.plan(0.0).limit == 1


def test_the_first_burst_is_rehearsed(progress: ModelProgress) -> None:
    assert progress.plan(0.0).rehearse
