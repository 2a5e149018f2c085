"""Signals that were alone in an outage."""

from __future__ import annotations

from relay.pacing import Backoff
from relay.suspects import MOST_SUSPECTS, Suspects


def new_suspects() -> Suspects:
    return Suspects(Backoff(1.0, 30.0, uniform=lambda _low, high: high))


def test_a_suspect_is_left_out_for_a_while_and_longer_each_time() -> None:
    suspects = new_suspects()
    suspects.was_alone((1,), now=0.0)
    assert suspects.keys(now=1.9) == [(1,)]
    assert suspects.keys(now=2.0) == []
    suspects.was_alone((1,), now=2.0)
    assert suspects.keys(now=5.9) == [(1,)]
    assert suspects.keys(now=6.0) == []


def test_no_suspicion_lasts_longer_than_an_outage_would() -> None:
    suspects = new_suspects()
    for _ in range(50):
        suspects.was_alone((1,), now=0.0)
    assert suspects.keys(now=29.9) == [(1,)]
    assert suspects.keys(now=30.0) == []


def test_a_signal_that_the_broker_answered_for_is_no_suspect_any_more() -> None:
    suspects = new_suspects()
    suspects.was_alone((1,), now=0.0)
    suspects.was_alone((2,), now=0.0)
    suspects.answered([(1,)])
    assert suspects.keys(now=0.0) == [(2,)]


def test_a_long_outage_is_remembered_for_a_bounded_number_of_signals() -> None:
    suspects = new_suspects()
    for number in range(MOST_SUSPECTS + 10):
        suspects.was_alone((number,), now=0.0)
    assert len(suspects.keys(now=0.0)) == MOST_SUSPECTS
    assert (0,) not in suspects.keys(now=0.0)
