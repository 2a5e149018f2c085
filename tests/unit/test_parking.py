"""Signals that wait for another try while their model goes on."""

from __future__ import annotations

from relay.pacing import Backoff
from relay.parking import FORGET_AFTER_SECONDS, Parking
from signalbus_core import Outcome, OutcomeKind

REFUSED = Outcome(OutcomeKind.REFUSED, "no route")


def new_parking() -> Parking:
    return Parking(Backoff(1.0, 60.0, uniform=lambda _low, high: high))


def test_a_failed_signal_is_left_out_until_its_next_try() -> None:
    parking = new_parking()
    parking.failed((7,), REFUSED, now=100.0)

    assert parking.waiting_keys(now=101.9) == [(7,)]
    assert parking.waiting_keys(now=102.0) == []


def test_each_attempt_waits_longer() -> None:
    parking = new_parking()
    waits = []
    now = 0.0
    for _ in range(8):
        entry = parking.failed((7,), REFUSED, now)
        waits.append(entry.next_try - now)
        now = entry.next_try
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert entry.attempts == 8


def test_signals_wait_apart_from_each_other() -> None:
    parking = new_parking()
    parking.failed((1,), REFUSED, now=0.0)
    parking.failed((2,), REFUSED, now=1.5)
    assert parking.waiting_keys(now=2.0) == [(2,)]


def test_what_has_not_failed_again_is_forgotten_in_time() -> None:
    parking = new_parking()
    entry = parking.failed((1,), REFUSED, now=0.0)
    parking.waiting_keys(now=entry.next_try + FORGET_AFTER_SECONDS + 1)
    assert parking.failed((1,), REFUSED, now=2000.0).attempts == 1
