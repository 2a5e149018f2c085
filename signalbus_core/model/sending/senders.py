"""Sends signals through the methods of their classes. An error of one class hides no signal that another one sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from inspect import getattr_static
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Protocol

from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from ...errors import (
    ACKED,
    EndedEarlyError,
    Outcome,
    OutcomeKind,
    PartialDeliveryError,
    PublishError,
    SignalModelError,
    worst,
)
from ...failures import discard_unfinished, raise_if_stop, sender_failure


class RowSender(Protocol):
    """Sends signals of a model as plain rows: it has no code that needs an instance."""

    @property
    def columns(self) -> Mapping[str, ColumnElement[Any]]:
        """What is loaded of a row, by the names of the model's attributes; the primary key comes first."""

    @property
    def written_at(self) -> int | None:
        """The index of the time of writing in a row."""

    @property
    def due_at(self) -> int | None:
        """The index of the time before which a row was not sent, in a row."""

    def send(self, rows: Sequence[Any], connection: Connection) -> None:
        """Send rows with these columns; it raises what a send method does.

        :param connection: to the database that they are from.
        """


def outcome_of(signal: Any, error: PartialDeliveryError) -> Outcome:
    """The outcome of a signal that was sent alone."""
    for one, outcome in error.failed:
        if one is signal:
            return outcome
    if any(one is signal for one in error.delivered):
        return ACKED
    return Outcome(OutcomeKind.UNKNOWN, "its send method does not say what became of it", cause="error")


#: Code that has not run, if a send method returns it: nobody looks at it.
_NOT_RUN: tuple[type[Any], ...] = (map, filter, zip, FunctionType, BuiltinFunctionType, MethodType, partial)


def refuse_unfinished(name: str, returned: object) -> None:
    """Refuse what a send method has returned, if it shows that its code has not run, or has not ended.

    That is a generator, a coroutine, a ``map`` or a function, and a future without a result: nothing is proved sent.

    :param name: of the model.
    """
    kind = discard_unfinished(returned)
    is_open = isinstance(returned, Future) and not _has_result(returned)
    if is_open or isinstance(returned, _NOT_RUN):
        kind = type(returned).__name__
    if kind is not None:
        raise SignalModelError(
            f"The send method of {name} returned a {kind}, so its code has not run, or has not ended. "
            "It must be a plain method that returns when the broker has stored the message."
        )


def _has_result(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def send_each(name: str, groups: Sequence[tuple[Callable[[list[Any]], object], list[Any]]]) -> None:
    """Send groups of signals, each by its own sender. An error of one sender hides nothing that another one proved.

    After an outage the remaining groups are not tried: each would wait for its own timeout.

    :raises PartialDeliveryError: not every signal is known to be sent. A group of several signals whose sender does not
      say which of them failed is in neither list.
    :raises EndedEarlyError: sending took too long, and nothing failed; it carries the signals that were sent.
    """
    delivered: list[Any] = []
    failed: list[tuple[Any, Outcome]] = []
    first_error: BaseException | None = None
    has_ended_early = False
    for send, signals in groups:
        try:
            refuse_unfinished(name, send(list(signals)))
        except EndedEarlyError as error:
            # No time is left for the other groups.
            delivered += error.delivered
            has_ended_early = True
            break
        except BaseException as error:  # noqa: BLE001 - chained to what is raised below
            raise_if_stop(error)
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
    """The signals of a group that are known from the error to have failed."""
    if isinstance(error, PartialDeliveryError):
        return error.failed
    outcome = worst(error.outcomes) if isinstance(error, PublishError) else sender_failure(error, signals[0])
    # An outage affects all of them. Another error may affect only one, so several are sent again by bisection.
    return [(signal, outcome) for signal in signals] if len(signals) == 1 or outcome.is_unanswered else []


def one_sender(model: type[Any]) -> Callable[[Any], object]:
    """A callable for ``send_signalbus_message``, which is an instance method, or a classmethod with an argument."""
    if isinstance(getattr_static(model, "send_signalbus_message"), (classmethod, staticmethod)):
        return lambda signal: type(signal).send_signalbus_message(signal)
    return lambda signal: signal.send_signalbus_message()


def many_sender(model: type[Any], name: str) -> Callable[[list[Any]], object] | None:
    """A callable that sends many signals at once; None where the model sends one at a time.

    Where a class has both methods, and a subclass overrides only ``send_signalbus_message``, the overriding method
    is used for many signals as well.
    """
    send_many = getattr(model, "send_signalbus_messages", None)
    if send_many is None:
        return None
    if not callable(send_many):
        raise SignalModelError(f"{name}.send_signalbus_messages must be a classmethod that takes a list of instances.")
    owner = next((one for one in model.__mro__ if "send_signalbus_messages" in vars(one)), model)
    its_one = getattr_static(owner, "send_signalbus_message", None)
    return send_many if its_one in (None, getattr_static(model, "send_signalbus_message")) else None
