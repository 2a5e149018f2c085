"""Calls the send method, and reports what became of the signals of a burst.

Those of an ordered model are sent in waves: the first of each key together, then the second of each. Invariant: a
signal is sent only when the one before it in its key was sent and confirmed. A failure ends the run of its key, an
outage all of them; what was not tried is held back, and counts neither as sent nor as failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection

from ..errors import EndedEarlyError, Outcome, PartialDeliveryError, PublishError, worst
from ..failures import raise_if_stop, sender_failure
from .contract import SignalSpec
from .order import Place, waves
from .sending.progress import LONG_SEND_SECONDS, holds_locks, report_progress
from .sending.senders import outcome_of, refuse_unfinished


@dataclass
class Report:
    """What the send method reported about the signals of a burst.

    :param held: signals that were not tried, because an earlier one of their key was not sent.
    """

    delivered: list[Any]
    failed: list[tuple[Any, Outcome]] = field(default_factory=list)
    error: BaseException | None = None
    held: list[Any] = field(default_factory=list)


@contextmanager
def reporting(signals: list[Any]) -> Iterator[Report]:
    """The report about a call of the send method, filled in at its end, whatever it raises."""
    report = Report(delivered=[])
    try:
        yield report
    except BaseException as error:  # noqa: BLE001 - it ends up in the result
        raise_if_stop(error)
        vars(report).update(vars(_report(error, signals)))
    else:
        report.delivered = signals


def send_in_order(
    spec: SignalSpec, connection: Connection, signals: Sequence[Any], place_of: Callable[[Any], Place]
) -> Report:
    """Send the signals of an ordered model, wave by wave."""
    report = Report(delivered=[])
    started = time.monotonic()
    tried: set[int] = set()
    # The keys whose signal in the wave before was confirmed; None in the first one.
    going: set[int] | None = None
    for numbered in waves(signals, place_of):
        wave = [signal for key, signal in numbered if going is None or key in going]
        if not wave:
            break
        if going is not None and time.monotonic() - started > LONG_SEND_SECONDS:
            # What was sent is deleted before a timeout or a restart would have it sent again.
            break
        report_progress()
        if not holds_locks():
            break
        tried.update(map(id, wave))
        with reporting(wave) as sent:
            refuse_unfinished(spec.name, spec.sender(wave, connection)(list(wave)))
        report.delivered += sent.delivered
        report.failed += sent.failed
        report.error = report.error or sent.error
        is_unknown = len(sent.delivered) + len(sent.failed) < len(wave)
        if is_unknown or any(outcome.is_unanswered for _, outcome in sent.failed):
            break
        confirmed = set(map(id, sent.delivered))
        going = {key for key, signal in numbered if id(signal) in confirmed}
    report.held = [signal for signal in signals if id(signal) not in tried]
    return report


def _report(error: BaseException, signals: list[Any]) -> Report:
    """Turn what the model's send method raised into a report about the signals."""
    if isinstance(error, EndedEarlyError):
        return Report(delivered=error.delivered)
    if isinstance(error, PartialDeliveryError):
        failed = [*error.failed, *_unmentioned(signals, error)]
        failed_ids = {id(signal) for signal, _ in failed}
        delivered_ids = {id(signal) for signal in error.delivered} - failed_ids
        ours = {id(signal) for signal in signals}
        return Report(
            delivered=[signal for signal in signals if id(signal) in delivered_ids],
            failed=[(signal, outcome) for signal, outcome in failed if id(signal) in ours],
            error=error,
        )
    if len(signals) > 1:
        # It is not known which of them failed, or whose message has which outcome.
        return Report(delivered=[], error=error)
    [signal] = signals
    outcome = worst(error.outcomes) if isinstance(error, PublishError) else sender_failure(error, signal)
    return Report(delivered=[], failed=[(signal, outcome)], error=error)


def _unmentioned(signals: list[Any], error: PartialDeliveryError) -> list[tuple[Any, Outcome]]:
    """A signal that was sent alone, and is in neither list, has failed. Of several this is not known."""
    mentioned = set(map(id, error.delivered)).union(id(signal) for signal, _ in error.failed)
    if len(signals) > 1 or id(signals[0]) in mentioned:
        return []
    return [(signals[0], outcome_of(signals[0], error))]
