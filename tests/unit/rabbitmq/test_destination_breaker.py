"""Destinations that do not confirm while others do."""

from __future__ import annotations

from signalbus_core.rabbitmq.destination_breaker import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    MOST_REMEMBERED,
    DestinationBreaker,
)
from tests.support.clock import Clock

A, B = ("orders", "a"), ("orders", "b")


def test_a_destination_is_silent_when_others_were_answered_while_it_was_not() -> None:
    clock = Clock()
    silences = DestinationBreaker(clock)
    clock.now = 1.0
    silences.answered([B])
    clock.now = 2.0
    silences.record_silence([A], since=0.0)
    clock.now = 9.0
    assert silences.silent_seconds(A) == 7.0
    assert silences.silent_seconds(B) is None


def test_nothing_answered_is_an_outage_however_long_it_lasts() -> None:
    clock = Clock()
    silences = DestinationBreaker(clock)
    silences.answered([A, B])
    for _ in range(5):
        since, clock.now = clock.now + 1.0, clock.now + 31.0
        silences.record_silence([A, B], since)
    clock.now += 1.0
    silences.answered([A])
    assert silences.silent_seconds(B) is None
    silences.answered([("orders", "never tried in the outage")])
    assert silences.silent_seconds(B) is None


def test_second_silence_counts_when_others_were_answered_since() -> None:
    clock = Clock()
    silences = DestinationBreaker(clock)
    silences.record_silence([A], since=-1.0)
    clock.now = 1.0
    silences.answered([B])
    assert silences.silent_seconds(A) is None
    clock.now = 3.0
    silences.record_silence([A], since=2.0)
    assert silences.silent_seconds(A) == 3.0


def test_its_own_answer_ends_a_silence() -> None:
    silences = DestinationBreaker(Clock())
    silences.answered([B])
    silences.record_silence([A], since=0.0)
    assert silences.silent_seconds(A) is not None
    silences.answered([A])
    assert silences.silent_seconds(A) is None


def test_one_caller_at_a_time_tries_and_later_each_time() -> None:
    clock = Clock()
    silences = DestinationBreaker(clock)
    waits = []
    for _ in range(9):
        silences.record_silence([A], since=clock.now)
        started = clock.now
        while not silences.claim_trial(A):
            clock.now += 1.0
        waits.append(clock.now - started)
        assert not silences.claim_trial(A)
    assert waits[:3] == [FIRST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2, FIRST_WAIT_SECONDS * 4]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_try_whose_caller_never_came_back_is_taken_up_by_another() -> None:
    clock = Clock()
    silences = DestinationBreaker(clock)
    silences.record_silence([A], since=clock.now)
    clock.now = FIRST_WAIT_SECONDS
    assert silences.claim_trial(A)
    clock.now += FIRST_WAIT_SECONDS
    assert silences.claim_trial(A)


def test_no_more_than_a_bounded_number_is_remembered() -> None:
    silences = DestinationBreaker(Clock())
    silences.answered([A])
    silences.record_silence([("x", str(number)) for number in range(MOST_REMEMBERED + 5)], since=0.0)
    assert silences.silent_seconds(("x", "0")) is None
    assert silences.silent_seconds(("x", "5")) is not None
