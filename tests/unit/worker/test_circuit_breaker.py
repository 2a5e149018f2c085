"""A bad signal, or bad code."""

from __future__ import annotations

from relay.worker.circuit_breaker import MANY_FAILURES, CircuitBreaker
from signalbus_core import Outcome, OutcomeKind
from signalbus_core.lowlevel import BurstResult, FailedSignal

INVALID = Outcome(OutcomeKind.INVALID, "no body")
REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")


def burst(sent: int, failed: int, outcome: Outcome = INVALID, first: int = 0) -> BurstResult:
    failures = tuple(FailedSignal((key,), outcome) for key in range(first, first + failed))
    return BurstResult(selected=sent + failed, sent=sent, failed=failures)


def test_a_few_bad_signals_among_good_ones_leave_it_closed() -> None:
    breaker = CircuitBreaker()
    for _ in range(100):
        breaker.record(burst(sent=MANY_FAILURES + 1, failed=MANY_FAILURES), 0.0)
    assert not breaker.is_open


def test_a_burst_in_which_most_fails_opens_it() -> None:
    breaker = CircuitBreaker()
    breaker.record(burst(sent=3, failed=MANY_FAILURES), 0.0)
    assert breaker.is_open


def test_single_failures_open_it_when_many_signals_fail_in_a_row() -> None:
    breaker = CircuitBreaker()
    for number in range(MANY_FAILURES - 1):
        breaker.record(burst(0, 1, first=number), 0.0)
        assert not breaker.is_open
    breaker.record(burst(0, 1, first=MANY_FAILURES), 0.0)
    assert breaker.is_open


def test_one_signal_does_not_open_it_however_often_it_fails() -> None:
    breaker = CircuitBreaker()
    for _ in range(10 * MANY_FAILURES):
        breaker.record(burst(0, 1), 0.0)
    assert not breaker.is_open


def test_retries_do_not_open_it_and_close_it_when_they_are_sent() -> None:
    breaker = CircuitBreaker()
    breaker.record(burst(0, MANY_FAILURES), 0.0, is_retry=True)
    assert not breaker.is_open
    breaker.record(burst(0, MANY_FAILURES), 0.0)
    breaker.record(burst(0, 1), 0.0, is_retry=True)
    assert breaker.is_open
    breaker.record(burst(1, 0), 0.0, is_retry=True)
    assert not breaker.is_open


def test_a_signal_that_is_sent_closes_it() -> None:
    breaker = CircuitBreaker()
    breaker.record(burst(0, MANY_FAILURES), 0.0)
    breaker.record(burst(1, 0), 0.0)
    assert not breaker.is_open
    breaker.record(burst(0, MANY_FAILURES - 1), 0.0)
    assert not breaker.is_open


def test_refused_signals_are_no_fault_of_the_code() -> None:
    breaker = CircuitBreaker()
    breaker.record(burst(0, 500, REFUSED), 0.0)
    assert not breaker.is_open


def test_it_tells_since_when_nothing_was_sent() -> None:
    breaker = CircuitBreaker()
    assert breaker.evidence(5.0).unsent_seconds == float("inf")
    breaker.record(burst(1, 1), 5.0)
    breaker.record(burst(0, 1), 7.0)
    assert breaker.evidence(8.0).unsent_seconds == 3.0
