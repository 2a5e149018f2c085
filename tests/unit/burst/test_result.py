"""What the result of a burst says beyond its figures."""

from __future__ import annotations

import pytest

from signalbus_core import Outcome, OutcomeKind, PartialDeliveryError, PublishError
from signalbus_core.lowlevel import BurstResult, FailedSignal

ACKED = Outcome(OutcomeKind.ACKED)
UNKNOWN = Outcome(OutcomeKind.UNKNOWN, "no answer")
REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
CLOSED = Outcome(OutcomeKind.UNKNOWN, "501 FRAME_ERROR", cause="closed")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")


def failed(*outcomes: Outcome) -> tuple[FailedSignal, ...]:
    return tuple(FailedSignal((number,), outcome) for number, outcome in enumerate(outcomes))


@pytest.mark.parametrize(
    ("result", "is_outage", "failed_whole", "has_unmentioned"),
    [
        (BurstResult(selected=3, sent=3), False, False, False),
        (BurstResult(selected=3, sent=2), False, False, True),
        (BurstResult(selected=3, sent=2, failed=failed(UNKNOWN)), True, False, False),
        (BurstResult(selected=3, sent=2, failed=failed(REFUSED)), False, False, False),
        (BurstResult(selected=1, failed=failed(RAISED), error=ValueError()), False, False, False),
        (BurstResult(selected=3, error=ValueError()), False, True, True),
        (BurstResult(selected=3, error=ConnectionResetError()), True, False, True),
        (BurstResult(selected=3, error=PublishError([ACKED, REFUSED])), False, True, True),
        (BurstResult(selected=3, error=PublishError([ACKED, UNKNOWN])), True, False, True),
        (BurstResult(selected=3, sent=1, failed=failed(CLOSED, CLOSED)), False, True, False),
        (BurstResult(selected=3, sent=1, error=PartialDeliveryError([1])), False, False, True),
    ],
)
def test_outage_fault_of_signal_and_left_open_are_told_apart(
    result: BurstResult, is_outage: bool, failed_whole: bool, has_unmentioned: bool
) -> None:
    assert (result.is_outage, result.failed_whole, result.has_unmentioned) == (is_outage, failed_whole, has_unmentioned)
