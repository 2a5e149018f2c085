"""What follows from a failed attempt."""

from __future__ import annotations

import math

import pytest

from relay.worker.retry_policy import (
    ALONE_SECONDS,
    ITS_OWN_FAULT,
    LONGEST_FAULT_WAIT_SECONDS,
    LONGEST_REFUSED_WAIT_SECONDS,
    Evidence,
    History,
    RetryPolicy,
)
from signalbus_core import Outcome, OutcomeKind

REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
INVALID = Outcome(OutcomeKind.INVALID, "routing key too long")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")
UNDELETED = Outcome(OutcomeKind.ACKED, "a foreign key", cause="undeleted")


def rules(park_after: int = 12) -> RetryPolicy:
    return RetryPolicy(park_after, uniform=lambda _low, high: high)


@pytest.mark.parametrize(
    ("outcome", "longest"),
    [
        (REFUSED, LONGEST_REFUSED_WAIT_SECONDS),
        (INVALID, LONGEST_FAULT_WAIT_SECONDS),
        (UNDELETED, LONGEST_FAULT_WAIT_SECONDS),
    ],
)
def test_each_attempt_waits_longer_up_to_a_bound(outcome: Outcome, longest: float) -> None:
    waits = [rules(1000).after(History(attempts, outcome.cause), outcome).wait_seconds for attempts in range(12)]
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == longest


@pytest.mark.parametrize("outcome", [INVALID, RAISED, UNDELETED])
def test_a_signal_at_fault_is_parked_after_its_last_attempt(outcome: Outcome) -> None:
    before_last = rules().after(History(10, outcome.cause), outcome)
    last = rules().after(History(11, outcome.cause), outcome)
    assert (before_last.attempts, before_last.wait_seconds) == (11, LONGEST_FAULT_WAIT_SECONDS)
    assert (last.attempts, last.wait_seconds) == (12, None)


def test_a_refused_signal_is_never_parked() -> None:
    step = rules().after(History(5000, "returned"), REFUSED)
    assert (step.attempts, step.wait_seconds) == (5001, LONGEST_REFUSED_WAIT_SECONDS)


def test_an_attempt_that_does_not_count_parks_nothing() -> None:
    step = rules().after(History(11, "error"), RAISED, Evidence(too_much_fails=True))
    assert (step.attempts, step.wait_seconds) == (11, LONGEST_REFUSED_WAIT_SECONDS)


def test_attempts_that_do_not_count_wait_up_to_a_minute() -> None:
    away = Evidence(unsent_seconds=math.inf)
    waits = [rules().after(History(1, "error", failing, 1.0), RAISED, away).wait_seconds for failing in (0, 7, 9, 900)]
    assert waits == [4.0, 8.0, 16.0, LONGEST_REFUSED_WAIT_SECONDS]


@pytest.mark.parametrize(
    ("unsent_seconds", "is_parked"), [(9.0, True), (11.0, False), (math.inf, False)], ids=["since", "before", "never"]
)
def test_what_sender_raises_counts_when_another_was_sent_since(unsent_seconds: float, is_parked: bool) -> None:
    before = History(2, "error", failing_seconds=100.0, waited_seconds=10.0)
    step = rules(park_after=3).after(before, RAISED, Evidence(unsent_seconds=unsent_seconds))
    assert (step.wait_seconds is None) == is_parked
    assert rules(park_after=3).after(before, INVALID, Evidence(unsent_seconds=unsent_seconds)).wait_seconds is None


def test_first_failure_of_new_sender_parks_nothing() -> None:
    step = rules(park_after=1).after(History(), RAISED, Evidence(unsent_seconds=math.inf))
    assert (step.attempts, step.wait_seconds) == (1, 2.0)


def test_signal_without_comparison_is_parked_after_a_day() -> None:
    before = History(11, "error", ALONE_SECONDS, 60.0)
    assert rules().after(before, RAISED, Evidence(unsent_seconds=math.inf)).wait_seconds is None


def test_while_too_much_fails_not_even_a_day_parks() -> None:
    before = History(11, "error", ALONE_SECONDS, 60.0)
    assert rules().after(before, RAISED, Evidence(too_much_fails=True)).wait_seconds is not None


def test_signal_that_was_parked_and_fails_again_is_parked_again() -> None:
    assert rules().after(History(12, "error"), INVALID).wait_seconds is None


@pytest.mark.parametrize(
    ("cause", "outcome"), [("nacked", RAISED), ("invalid", REFUSED), ("error", UNDELETED), ("undeleted", INVALID)]
)
def test_attempts_of_another_kind_do_not_count(cause: str, outcome: Outcome) -> None:
    step = rules().after(History(11, cause), outcome, ITS_OWN_FAULT)
    assert (step.attempts, step.wait_seconds) == (1, 2.0)


@pytest.mark.parametrize("cause", ["returned", "nacked", "refused", "silent", "mailbox full"])
def test_refusals_in_row_count_together_whatever_they_are_called(cause: str) -> None:
    refused = Outcome(OutcomeKind.REFUSED, "", cause=cause)
    assert rules().after(History(3, cause), refused).attempts == 4
