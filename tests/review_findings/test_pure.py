"""Findings of a review that need no server. Each test states what should hold, and fails."""

from __future__ import annotations

from typing import Any

from relay.pacing import Backoff
from relay.parking import ParkingRules
from relay.progress import ModelProgress
from relay.shelf import MemoryShelf
from relay.suspects import Suspects
from signalbus_core import (
    BurstResult,
    FailedSignal,
    Outcome,
    OutcomeKind,
    PartialDeliveryError,
    PublishError,
    SignalSpec,
    error_text,
)
from signalbus_core.rabbitmq.silence import SilentDestinations

UNKNOWN = Outcome(OutcomeKind.UNKNOWN, "no answer")
REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
INVALID = Outcome(OutcomeKind.INVALID, "routing key too long")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")


def highest(_low: float, high: float) -> float:
    return high


def make(burst_count: int = 8) -> ModelProgress:
    spec = SignalSpec(model=object, name="S", burst_count=burst_count, bind_key=None, send_one=print, send_many=None)
    return ModelProgress(spec, Backoff(0.2, 30.0, highest), Suspects(Backoff(1.0, 30.0, highest)))


def failing(*failed: tuple[Any, Outcome], sent: int = 0, error: Exception | None = None) -> BurstResult:
    return BurstResult(
        selected=sent + len(failed),
        sent=sent,
        failed=tuple(FailedSignal((key,), outcome) for key, outcome in failed),
        error=error,
    )


def test_one_bad_signal_in_a_quiet_model_is_parked_in_the_end() -> None:
    progress = make()
    for _ in range(12):
        progress.retry_is_due()
        verdict = progress.finished(progress.plan(0.0), failing((1, RAISED)), now=0.0)
        assert verdict.counted  # False from the fifth attempt of the same signal on


def test_five_bad_signals_among_healthy_traffic_are_parked_in_the_end() -> None:
    progress = make()
    for _ in range(12):
        progress.finished(progress.plan(0.0), BurstResult(selected=8, sent=8), now=0.0)
        progress.retry_is_due()
        five = failing(*((key, INVALID) for key in range(5)))
        assert progress.finished(progress.plan(0.0), five, now=0.0).counted


def test_attempts_at_a_refusing_destination_do_not_count_towards_parking() -> None:
    rules = ParkingRules()
    attempts = 0
    for _ in range(11):
        attempts = rules.after(attempts, REFUSED, counted=True).attempts
    assert rules.after(attempts, RAISED, counted=True).wait_seconds is not None


def test_with_a_full_shelf_a_failed_retry_is_noted_so_that_others_get_their_turn() -> None:
    progress = make()
    progress.can_set_aside(False)
    progress.retry_is_due()
    assert progress.finished(progress.plan(0.0), failing((1, REFUSED)), now=0.0).failed


def test_a_retry_that_failed_whole_is_tried_again_in_smaller_bursts_whatever_the_traffic() -> None:
    """Every second burst is a retry of two signals, of which one would be stored; the other is returned."""
    progress = make()
    together = 0
    for _ in range(50):
        progress.retry_is_due()
        plan = progress.plan(0.0)
        if plan.limit >= 2:
            together += 1
            progress.finished(
                plan, BurstResult(selected=2, error=PublishError([Outcome(OutcomeKind.ACKED), REFUSED])), 0.0
            )
        else:
            break
        progress.finished(progress.plan(0.0), BurstResult(selected=1, sent=1), now=0.0)
    assert together < 10


def test_an_unanswered_publish_of_several_messages_is_an_outage() -> None:
    result = BurstResult(selected=500, error=PublishError([UNKNOWN] * 500))
    assert result.is_outage
    assert not result.failed_whole


def test_a_signal_of_which_the_sender_says_nothing_does_not_make_the_relay_run_in_circles() -> None:
    progress = make(burst_count=1)
    verdict = progress.finished(progress.plan(0.0), BurstResult(selected=1, error=PartialDeliveryError([])), now=0.0)
    assert not verdict.more or verdict.failed


def test_in_memory_attempts_of_a_signal_that_another_worker_has_locked_are_kept() -> None:
    shelf = MemoryShelf(ParkingRules(park_after=3, uniform=lambda _low, _high: 0.0), lambda: 1000.0)
    shelf.put([FailedSignal((1,), RAISED)], counted=True)
    shelf.put([FailedSignal((1,), RAISED)], counted=True)
    # Worker A is sending signal 1. Worker B retries it, gets no lock, and its burst selects nothing.
    shelf.retried([(1,)], [])
    assert shelf.put([FailedSignal((1,), RAISED)], counted=True) == [(1,)]


def test_after_a_total_outage_nothing_is_held_back() -> None:
    now = [0.0]
    silences = SilentDestinations(lambda: now[0])
    # Nothing at all is confirmed for five minutes: each model tries its own destination now and then.
    for _ in range(7):
        now[0] += 40
        silences.was_silent([("orders", "a")])
        silences.was_silent([("invoices", "b")])
    now[0] += 10
    silences.answered([("orders", "a")])
    held = silences.silent_seconds(("invoices", "b")) is not None and not silences.may_try(("invoices", "b"))
    assert not held


class Row:
    def __init__(self, **columns: Any) -> None:
        self.__dict__.update(columns)


def test_a_part_of_the_payload_is_not_shown() -> None:
    signal = Row(id=1, body='{"email": "joe@example.org"}')
    assert "joe@example.org" not in error_text(ValueError("bad address joe@example.org"), [signal])
