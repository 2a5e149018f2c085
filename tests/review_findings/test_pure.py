"""Findings of a review that need no server. Each test states what should hold, and fails."""

from __future__ import annotations

from typing import Any

from signalbus_core import (
    BurstResult,
    Outcome,
    OutcomeKind,
    PublishError,
    error_text,
)
from signalbus_core.rabbitmq.silence import SilentDestinations

UNKNOWN = Outcome(OutcomeKind.UNKNOWN, "no answer")
REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
INVALID = Outcome(OutcomeKind.INVALID, "routing key too long")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")


def test_an_unanswered_publish_of_several_messages_is_an_outage() -> None:
    result = BurstResult(selected=500, error=PublishError([UNKNOWN] * 500))
    assert result.is_outage
    assert not result.failed_whole


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
