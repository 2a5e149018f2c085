"""How signals are sent through the methods of their classes, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import getattr_static
from typing import Any

from ..errors import (
    ACKED,
    EndedEarlyError,
    Outcome,
    OutcomeKind,
    PartialDeliveryError,
    PublishError,
    SignalModelError,
    worst,
)
from ..failures import sender_failure


def outcome_of(signal: Any, error: PartialDeliveryError) -> Outcome:
    """What became of a signal that was sent alone."""
    for one, outcome in error.failed:
        if one is signal:
            return outcome
    if any(one is signal for one in error.delivered):
        return ACKED
    return Outcome(OutcomeKind.UNKNOWN, "its send method does not say what became of it", cause="error")


def send_each(groups: Sequence[tuple[Callable[[list[Any]], None], list[Any]]]) -> None:
    """Send groups of signals, each by its own sender. What one of them raises hides nothing that another proved.

    After an outage the groups that follow are left untouched: each would wait for its own time limit.

    :raises PartialDeliveryError: not everything is known to be sent. A group of several signals whose sender does not
      tell which of them failed is in neither list.
    :raises EndedEarlyError: sending took long, and nothing failed; those that were sent are told.
    """
    delivered: list[Any] = []
    failed: list[tuple[Any, Outcome]] = []
    first_error: BaseException | None = None
    has_ended_early = False
    for send, signals in groups:
        try:
            send(signals)
        except EndedEarlyError as error:
            # There is no time left for the others.
            delivered += error.delivered
            has_ended_early = True
            break
        except (Exception, SystemExit) as error:  # noqa: BLE001 - chained to what is raised below
            first_error = first_error or error
            its_failed = failed_of(error, signals)
            delivered += error.delivered if isinstance(error, PartialDeliveryError) else []
            failed += its_failed
            if any(outcome.is_unanswered for _, outcome in its_failed):
                break
        else:
            delivered += signals
    if first_error is not None:
        if not delivered and not failed:
            raise first_error
        raise PartialDeliveryError(delivered, failed) from first_error
    if has_ended_early:
        raise EndedEarlyError(delivered)


def failed_of(error: BaseException, signals: Sequence[Any]) -> list[tuple[Any, Outcome]]:
    """Which signals of a group failed, as far as an error tells."""
    if isinstance(error, PartialDeliveryError):
        return error.failed
    outcome = worst(error.outcomes) if isinstance(error, PublishError) else sender_failure(error, signals[0])
    # An outage concerns them all; anything else perhaps one, and several are sent again in halves.
    return [(signal, outcome) for signal in signals] if len(signals) == 1 or outcome.is_unanswered else []


def one_sender(model: type[Any]) -> Callable[[Any], object]:
    """The way to call ``send_signalbus_message``: bound to the instance, or as a classmethod that takes it."""
    if isinstance(getattr_static(model, "send_signalbus_message"), (classmethod, staticmethod)):
        return lambda signal: type(signal).send_signalbus_message(signal)
    return lambda signal: signal.send_signalbus_message()


def many_sender(model: type[Any], name: str) -> Callable[[list[Any]], object] | None:
    """The way to send many at once; None where the model sends one at a time.

    Where a class has both methods, and one below it replaces only ``send_signalbus_message``, many are sent by that
    one: the other knows nothing of it.
    """
    send_many = getattr(model, "send_signalbus_messages", None)
    if send_many is None:
        return None
    if not callable(send_many):
        raise SignalModelError(f"{name}.send_signalbus_messages must be a classmethod that takes a list of instances.")
    owner = next((one for one in model.__mro__ if "send_signalbus_messages" in vars(one)), model)
    its_one = getattr_static(owner, "send_signalbus_message", None)
    return send_many if its_one in (None, getattr_static(model, "send_signalbus_message")) else None
