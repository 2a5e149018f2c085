"""Signals that are set aside in memory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relay.parking import ParkingRules
from relay.shelf import MemoryShelf
from signalbus_core import BurstResult, FailedSignal, Key, LeaveOut, Outcome, OutcomeKind
from tests.support.clock import Clock

REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")


def failed(key: int, outcome: Outcome = REFUSED) -> FailedSignal:
    return FailedSignal((key,), outcome)


def new_shelf(clock: Clock, park_after: int = 3, left: Sequence[Key] = ()) -> MemoryShelf:
    """A shelf of a model in whose table are only the signals that are ``left``."""
    rules = ParkingRules(park_after, uniform=lambda _low, high: high)
    return MemoryShelf(rules, lambda keys: bool(set(keys) & set(left)), clock)


def test_ordinary_bursts_leave_out_what_is_set_aside_and_what_is_to_be_avoided() -> None:
    shelf = new_shelf(Clock())
    shelf.put([failed(1)], counted=True)
    choice = shelf.choice([(1,), (9,)])
    assert (choice.leave_out, choice.exclude, choice.only) == (LeaveOut.NOTHING, ((1,), (9,)), None)


def test_a_signal_is_due_when_its_wait_is_over_and_not_before() -> None:
    clock = Clock()
    shelf = new_shelf(clock)
    shelf.put([failed(1)], counted=True)
    clock.now = 1.9
    assert not shelf.has_due()
    assert shelf.due(10) == ()
    clock.now = 2.0
    assert shelf.has_due()
    assert shelf.due(10) == ((1,),)
    assert shelf.retry(((1,),)).only == ((1,),)


def test_refused_signals_are_tried_again_together_and_raising_ones_alone() -> None:
    clock = Clock()
    shelf = new_shelf(clock)
    shelf.put([failed(1), failed(2, RAISED), failed(3), failed(4, RAISED)], counted=True)
    clock.now = 10.0
    assert shelf.due(10) == ((1,), (3,))
    shelf.retried([(1,), (3,)], BurstResult(selected=2, sent=2))
    assert shelf.due(10) == ((2,),)


def test_no_more_are_due_than_fit_into_a_burst() -> None:
    clock = Clock()
    shelf = new_shelf(clock)
    shelf.put([failed(number) for number in range(5)], counted=True)
    clock.now = 10.0
    assert len(shelf.due(2)) == 2


def test_what_was_sent_is_forgotten_and_what_failed_again_is_not() -> None:
    clock = Clock()
    shelf = new_shelf(clock)
    shelf.put([failed(1), failed(2)], counted=True)
    shelf.retried([(1,), (2,)], BurstResult(selected=2, sent=1, failed=(failed(2),)))
    assert shelf.count() == (1, 0)
    assert shelf.choice([]).exclude == ((2,),)


def test_attempts_of_a_signal_that_another_worker_has_locked_are_kept() -> None:
    shelf = new_shelf(Clock(), park_after=2, left=[(1,)])
    shelf.put([failed(1, RAISED)], counted=True)
    shelf.retried([(1,)], BurstResult(selected=0))
    assert shelf.put([failed(1, RAISED)], counted=True) == [(1,)]


def test_a_signal_that_is_gone_is_forgotten_when_it_is_tried_again() -> None:
    shelf = new_shelf(Clock(), left=[(2,)])
    shelf.put([failed(1)], counted=True)
    shelf.retried([(1,)], BurstResult(selected=0))
    assert shelf.count() == (0, 0)


@pytest.mark.parametrize("outcome", [REFUSED, RAISED])
def test_what_is_to_be_avoided_is_not_due_and_keeps_nothing_else_from_being_so(outcome: Outcome) -> None:
    clock = Clock()
    shelf = new_shelf(clock)
    shelf.put([failed(1, outcome), failed(2, outcome)], counted=True)
    clock.now = 10.0
    assert shelf.due(1, avoid=[(1,)]) == ((2,),)


def test_a_signal_that_fails_too_often_is_parked_and_not_due_any_more() -> None:
    clock = Clock()
    shelf = new_shelf(clock, park_after=2)
    assert shelf.put([failed(1, RAISED)], counted=True) == []
    assert shelf.put([failed(1, RAISED)], counted=True) == [(1,)]
    clock.now = 1e9
    assert shelf.due(10) == ()
    assert shelf.count() == (0, 1)


def test_attempts_at_a_refusing_destination_do_not_bring_a_signal_nearer_to_being_parked() -> None:
    shelf = new_shelf(Clock(), park_after=2)
    for outcome in (REFUSED, REFUSED, RAISED):
        assert shelf.put([failed(1, outcome)], counted=True) == []
    assert shelf.put([failed(1, RAISED)], counted=True) == [(1,)]


def test_attempts_that_do_not_count_park_nothing() -> None:
    shelf = new_shelf(Clock(), park_after=2)
    for _ in range(5):
        assert shelf.put([failed(1, RAISED)], counted=False) == []
    assert shelf.count() == (1, 0)
