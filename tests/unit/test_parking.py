"""What follows from a failed attempt."""

from __future__ import annotations

import pytest

from relay.parking import LONGEST_FAULT_WAIT_SECONDS, LONGEST_REFUSED_WAIT_SECONDS, ParkingRules
from signalbus_core import Outcome, OutcomeKind

REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
INVALID = Outcome(OutcomeKind.INVALID, "routing key too long")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")


def rules(park_after: int = 12) -> ParkingRules:
    return ParkingRules(park_after, uniform=lambda _low, high: high)


@pytest.mark.parametrize(
    ("outcome", "longest"), [(REFUSED, LONGEST_REFUSED_WAIT_SECONDS), (INVALID, LONGEST_FAULT_WAIT_SECONDS)]
)
def test_each_attempt_waits_longer_up_to_a_bound(outcome: Outcome, longest: float) -> None:
    waits = [rules(1000).after(attempts, outcome, counted=True).wait_seconds for attempts in range(12)]
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == longest


@pytest.mark.parametrize("outcome", [INVALID, RAISED])
def test_a_signal_at_fault_is_parked_after_its_last_attempt(outcome: Outcome) -> None:
    before_last = rules().after(10, outcome, counted=True)
    last = rules().after(11, outcome, counted=True)
    assert (before_last.attempts, before_last.wait_seconds) == (11, LONGEST_FAULT_WAIT_SECONDS)
    assert (last.attempts, last.wait_seconds) == (12, None)


def test_a_refused_signal_is_never_parked() -> None:
    step = rules().after(5000, REFUSED, counted=True)
    assert (step.attempts, step.wait_seconds) == (5001, LONGEST_REFUSED_WAIT_SECONDS)


def test_an_attempt_that_does_not_count_parks_nothing() -> None:
    step = rules().after(11, RAISED, counted=False)
    assert (step.attempts, step.wait_seconds) == (11, LONGEST_FAULT_WAIT_SECONDS)


def test_a_signal_that_was_parked_and_fails_again_is_parked_again() -> None:
    assert rules().after(12, INVALID, counted=True).wait_seconds is None
