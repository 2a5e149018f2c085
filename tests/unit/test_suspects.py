"""Signals that were alone in an outage."""

from __future__ import annotations

from relay.pacing import Backoff
from relay.suspects import MOST_SUSPECTS, Suspects


def new_suspects() -> Suspects:
    return Suspects(Backoff(1.0, 30.0, uniform=lambda _low, high: high))


def test_a_suspect_is_left_out_until_there_is_an_answer_and_tried_later_each_time() -> None:
    suspects = new_suspects()
    suspects.was_alone((1,), now=0.0)
    assert suspects.take_due(now=1.9) is None
    assert suspects.take_due(now=2.0) == (1,)
    suspects.was_alone((1,), now=2.0)
    assert not suspects.has_due(now=5.9)
    assert suspects.has_due(now=6.0)
    assert suspects.keys() == [(1,)]


def test_no_suspect_waits_longer_than_an_outage_would() -> None:
    suspects = new_suspects()
    for _ in range(50):
        suspects.was_alone((1,), now=0.0)
    assert not suspects.has_due(now=29.9)
    assert suspects.has_due(now=30.0)


def test_a_suspect_that_is_being_tried_is_given_to_nobody_else() -> None:
    suspects = new_suspects()
    suspects.was_alone((1,), now=0.0)
    suspects.was_alone((2,), now=0.0)
    assert [suspects.take_due(now=2.0) for _ in range(3)] == [(1,), (2,), None]
    assert suspects.take_due(now=4.0) == (1,)


def test_a_signal_that_the_broker_answered_for_is_no_suspect_any_more() -> None:
    suspects = new_suspects()
    suspects.was_alone((1,), now=0.0)
    suspects.was_alone((2,), now=0.0)
    suspects.answered([(1,)])
    assert suspects.keys() == [(2,)]


def test_a_long_outage_is_remembered_for_a_bounded_number_of_signals() -> None:
    suspects = new_suspects()
    for number in range(MOST_SUSPECTS + 10):
        suspects.was_alone((number,), now=0.0)
    remembered = suspects.keys()
    assert len(remembered) == MOST_SUSPECTS
    assert (0,) not in remembered
