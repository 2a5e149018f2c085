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
    waits = [rules(1000).after(attempts, outcome.cause, outcome, counted=True).wait_seconds for attempts in range(12)]
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == longest


@pytest.mark.parametrize("outcome", [INVALID, RAISED])
def test_a_signal_at_fault_is_parked_after_its_last_attempt(outcome: Outcome) -> None:
    before_last = rules().after(10, outcome.cause, outcome, counted=True)
    last = rules().after(11, outcome.cause, outcome, counted=True)
    assert (before_last.attempts, before_last.wait_seconds) == (11, LONGEST_FAULT_WAIT_SECONDS)
    assert (last.attempts, last.wait_seconds) == (12, None)


def test_a_refused_signal_is_never_parked() -> None:
    step = rules().after(5000, "returned", REFUSED, counted=True)
    assert (step.attempts, step.wait_seconds) == (5001, LONGEST_REFUSED_WAIT_SECONDS)


def test_an_attempt_that_does_not_count_parks_nothing() -> None:
    step = rules().after(11, "error", RAISED, counted=False)
    assert (step.attempts, step.wait_seconds) == (11, LONGEST_FAULT_WAIT_SECONDS)


def test_a_signal_that_was_parked_and_fails_again_is_parked_again() -> None:
    assert rules().after(12, "error", INVALID, counted=True).wait_seconds is None


def test_attempts_at_a_refusing_destination_do_not_count_towards_parking() -> None:
    step = rules().after(11, "nacked", RAISED, counted=True)
    assert (step.attempts, step.wait_seconds) == (1, 2.0)


def test_a_signal_whose_destination_refuses_it_after_faults_of_its_own_begins_anew() -> None:
    step = rules().after(5, "invalid", REFUSED, counted=True)
    assert (step.attempts, step.wait_seconds) == (1, 2.0)


@pytest.mark.parametrize("cause", ["returned", "nacked", "refused", "silent", "mailbox full"])
def test_refusals_in_a_row_count_together_whatever_they_are_called(cause: str) -> None:
    refused = Outcome(OutcomeKind.REFUSED, "", cause=cause)
    assert rules().after(3, cause, refused, counted=True).attempts == 4
