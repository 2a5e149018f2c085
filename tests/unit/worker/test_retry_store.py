"""Signals that are set aside in memory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relay.worker.retry_policy import Evidence, RetryPolicy
from relay.worker.retry_store import TAKEN_SECONDS, MemoryRetryStore
from signalbus_core import Outcome, OutcomeKind
from signalbus_core.lowlevel import BurstResult, FailedSignal, Key, LeaveOut
from tests.support.clock import Clock

REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")
INVALID = Outcome(OutcomeKind.INVALID, "routing key too long")
UNDELETED = Outcome(OutcomeKind.ACKED, "a foreign key", cause="undeleted")


def failed(key: int, outcome: Outcome = REFUSED) -> FailedSignal:
    return FailedSignal((key,), outcome)


def new_shelf(clock: Clock, park_after: int = 3, left: Sequence[Key] = ()) -> MemoryRetryStore:
    """A retry_store of a model in whose table are only the signals that are ``left``."""
    rules = RetryPolicy(park_after, uniform=lambda _low, high: high)
    return MemoryRetryStore(rules, lambda keys: {key: "1" for key in keys if key in left}, clock)


def test_ordinary_bursts_leave_out_what_is_set_aside_and_what_is_to_be_avoided() -> None:
    retry_store = new_shelf(Clock())
    retry_store.put([failed(1)])
    choice = retry_store.choice([(1,), (9,)])
    assert (choice.leave_out, choice.exclude, choice.only) == (LeaveOut.NOTHING, ((1,), (9,)), None)


def test_a_signal_is_due_when_its_wait_is_over_and_not_before() -> None:
    clock = Clock()
    retry_store = new_shelf(clock)
    retry_store.put([failed(1)])
    clock.now = 1.9
    assert not retry_store.has_due()
    assert retry_store.take_due(10).keys == ()
    clock.now = 2.0
    assert retry_store.has_due()
    assert retry_store.take_due(10).keys == ((1,),)
    assert retry_store.retry(((1,),)).only == ((1,),)


def test_refused_signals_are_tried_together_raising_ones_alone() -> None:
    clock = Clock()
    retry_store = new_shelf(clock)
    retry_store.put([failed(1), failed(2, RAISED), failed(3), failed(4, RAISED)])
    clock.now = 10.0
    due = retry_store.take_due(10)
    assert due.keys == ((1,), (3,))
    retry_store.tried(due, BurstResult(selected=2, sent=2, keys=due.keys))
    assert retry_store.take_due(10).keys == ((2,),)


def test_no_more_are_due_than_fit_into_a_burst() -> None:
    clock = Clock()
    retry_store = new_shelf(clock)
    retry_store.put([failed(number) for number in range(5)])
    clock.now = 10.0
    assert len(retry_store.take_due(2).keys) == 2


def test_what_was_sent_is_forgotten_and_what_failed_again_is_not() -> None:
    clock = Clock()
    retry_store = new_shelf(clock)
    retry_store.put([failed(1), failed(2)])
    clock.now = 10.0
    due = retry_store.take_due(10)
    retry_store.tried(due, BurstResult(selected=2, sent=1, failed=(failed(2),), keys=due.keys), [(2,)])
    assert retry_store.count() == (1, 0)
    assert retry_store.choice([]).exclude == ((2,),)


@pytest.mark.parametrize("is_left", [True, False])
def test_a_signal_that_was_not_to_be_had_comes_later_or_is_gone(is_left: bool) -> None:
    clock = Clock()
    retry_store = new_shelf(clock, park_after=2, left=[(1,)] if is_left else [])
    retry_store.put([failed(1, RAISED), failed(2, RAISED)])
    clock.now = 10.0
    due = retry_store.take_due(10)
    assert due.keys == ((1,),)
    retry_store.tried(due, BurstResult(selected=0))
    assert retry_store.take_due(10).keys == ((2,),), "the next one comes at once"
    assert retry_store.count() == (1 + is_left, 0)
    clock.now += TAKEN_SECONDS
    assert retry_store.take_due(10).keys == (((1,),) if is_left else ((2,),))


def refused(key: int, destination: str) -> FailedSignal:
    return failed(key, Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned", destination=destination))


def test_one_signal_tries_for_all_of_its_destination() -> None:
    clock = Clock()
    retry_store = new_shelf(clock)
    retry_store.put([refused(1, "a"), refused(2, "a"), refused(3, "b"), refused(4, "a")])
    clock.now = 10.0
    due = retry_store.take_due(10)
    assert due.keys == ((1,), (3,))
    retry_store.put([refused(1, "a")], is_retry=True)
    retry_store.tried(due, BurstResult(selected=2, sent=1, failed=(refused(1, "a"),), keys=due.keys), [(1,)])
    clock.now = 13.9
    assert retry_store.take_due(10).keys == (), "all of them wait as long as the one that tried"
    clock.now = 14.0
    due = retry_store.take_due(10)
    assert due.keys == ((2,),), "each time another one"
    retry_store.tried(due, BurstResult(selected=1, sent=1, keys=due.keys))
    assert retry_store.take_due(10).keys == ((4,), (1,)), "the others follow at once and together"
    assert retry_store.count() == (2, 0)


def test_of_what_was_sent_only_the_delete_is_tried() -> None:
    clock = Clock()
    retry_store = new_shelf(clock, park_after=2)
    retry_store.put([failed(1, UNDELETED), failed(2, INVALID), failed(3, UNDELETED)])
    clock.now = 10.0
    due = retry_store.take_due(10)
    assert (due.keys, due.is_delete) == (((1,), (3,)), True)
    kept = BurstResult(selected=2, sent=1, undeleted=(failed(1, UNDELETED),), keys=due.keys)
    assert retry_store.put(kept.undeleted, is_retry=True) == [(1,)]
    retry_store.tried(due, kept, [(1,)])
    assert retry_store.count() == (1, 1)
    assert not retry_store.take_due(10).is_delete


def test_new_signal_under_key_of_parked_one_is_found_soon() -> None:
    versions = {(1,): "700", (2,): "701"}
    retry_store = MemoryRetryStore(RetryPolicy(1), lambda keys: {key: versions[key] for key in keys}, Clock())
    retry_store.put([failed(1, INVALID), failed(2, INVALID)])
    versions[1,] = "900"
    retry_store.clean_up()
    assert retry_store.choice([]).exclude == ((2,),)


@pytest.mark.parametrize("outcome", [REFUSED, RAISED])
def test_what_is_to_be_avoided_is_not_due_and_keeps_nothing_else_from_being_so(outcome: Outcome) -> None:
    clock = Clock()
    retry_store = new_shelf(clock)
    retry_store.put([failed(1, outcome), failed(2, outcome)])
    clock.now = 10.0
    assert retry_store.take_due(1, avoid=[(1,)]).keys == ((2,),)


def test_signal_that_fails_too_often_is_parked() -> None:
    clock = Clock()
    retry_store = new_shelf(clock, park_after=2)
    assert retry_store.put([failed(1, RAISED)]) == []
    assert retry_store.put([failed(1, RAISED)], is_retry=True) == [(1,)]
    clock.now = 1e9
    assert retry_store.take_due(10).keys == ()
    assert retry_store.count() == (0, 1)


def test_attempts_at_a_refusing_destination_do_not_bring_a_signal_nearer_to_being_parked() -> None:
    retry_store = new_shelf(Clock(), park_after=2)
    for outcome in (REFUSED, REFUSED, RAISED):
        assert retry_store.put([failed(1, outcome)], is_retry=True) == []
    assert retry_store.put([failed(1, RAISED)], is_retry=True) == [(1,)]


def test_attempts_that_do_not_count_park_nothing() -> None:
    retry_store = new_shelf(Clock(), park_after=2)
    for _ in range(5):
        assert retry_store.put([failed(1, RAISED)], Evidence(too_much_fails=True), is_retry=True) == []
    assert retry_store.count() == (1, 0)


@pytest.mark.parametrize(("skips_parked", "passed_over"), [(False, ((2,),)), (True, ((1,), (2,)))])
def test_parked_signals_are_passed_over_if_the_model_says_so_and_sent_ones_always(
    skips_parked: bool, passed_over: tuple[Key, ...]
) -> None:
    rules = RetryPolicy(1, uniform=lambda _low, high: high)
    retry_store = MemoryRetryStore(rules, lambda _: {}, Clock(), skips_parked=skips_parked)
    retry_store.put([failed(1, INVALID), failed(2, UNDELETED), failed(3)])
    choice = retry_store.choice(())
    assert (sorted(choice.exclude), tuple(sorted(choice.passed_over))) == ([(1,), (2,), (3,)], passed_over)
    assert tuple(sorted(retry_store.retry(((3,),)).passed_over)) == passed_over
