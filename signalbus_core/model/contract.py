"""The signal-model contract: what a model must define to be sent. Its optional parts are resolved once, here only.

A signal model is a mapped class with a ``send_signalbus_message`` method. Everything optional (sending many at once,
the burst count, how the send method is called) is resolved here: the rest of the library works with a
:class:`SignalSpec`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Protocol, cast

from sqlalchemy import Boolean, Column, Table, literal_column
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import ColumnElement

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
from ..failures import raise_if_stop, sender_failure
from .limits import burst_count_of, keep_days_of, max_rate_of
from .order import KeyOrder, resolve_order
from .refusals import refuse_compound_keys, refuse_joined_inheritance, refuse_other_selectables, refuse_unknown_classes
from .schedule import SEND_AFTER, Schedule, schedule_of
from .sending.progress import LONG_SEND_SECONDS, holds_locks, report_progress
from .sending.senders import RowSender, many_sender, one_sender, outcome_of, refuse_unfinished, send_each
from .written_at import later_of, moments, written_at_attribute


class SignalModel(Protocol):
    """The interface of a signal model.

    Optional, and so not part of the protocol: the classmethod ``send_signalbus_messages(cls, instances)``,
    and the class attribute ``signalbus_burst_count: int``.
    """

    def send_signalbus_message(self) -> None:
        """Send this signal. Returns only when the broker has stored the message; otherwise raises."""


@dataclass(frozen=True)
class SignalSpec:
    """A signal model with everything that the bus needs.

    :param model: the mapped class.
    :param name: the class name; qualified with the module where two signal models share a class name.
    :param burst_count: signals that are locked, sent and deleted in one transaction.
    :param written_at: the attribute with the time of writing of a signal; None when the model has none.
    :param bind_key: the key in ``SQLALCHEMY_BINDS`` of the database that the table lives in, None for the default.
    :param condition: SQL condition for the rows that are signals; None when all are. Other rows are never changed.
    :param max_rate: the most signals that a relay sends of the model in a second; None for no limit.
    :param done: columns and their values in SQL that mark a sent row; empty where it is deleted.
    :param schedule: when signals are due; None when all are at once.
    :param row_sender: sends rows without instances; None where the model has code that needs these.
    :param order: the order of its signals; None when they have none.
    :param keep_days: for how many days what was sent is kept in ``signalbus_sent``; None: nothing is kept.
    """

    model: type[Any]
    name: str
    burst_count: int
    bind_key: str | None
    send_one: Callable[[Any], object]
    send_many: Callable[[list[Any]], object] | None
    written_at: str | None = None
    condition: str | None = None
    done: tuple[tuple[str, str], ...] = ()
    row_sender: RowSender | None = None
    order: KeyOrder | None = None
    keep_days: int | None = None
    schedule: Schedule | None = None
    max_rate: float | None = None

    @cached_property
    def mapper(self) -> Mapper[Any]:
        return cast("Mapper[Any]", sqlalchemy_inspect(self.model))

    @cached_property
    def table(self) -> Table:
        return cast(Table, self.mapper.local_table)

    @cached_property
    def primary_key(self) -> tuple[Column[Any], ...]:
        return cast("tuple[Column[Any], ...]", tuple(self.mapper.primary_key))

    @cached_property
    def written_at_column(self) -> Column[Any] | None:
        """The column with the time of writing of a signal."""
        return None if self.written_at is None else self.mapper.columns[self.written_at]

    @cached_property
    def is_signal(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions that a row of the table is a signal; none where all rows are.

        For statements that read only from this table.
        """
        # In parentheses, and not as text(), where a colon would begin a parameter.
        return () if self.condition is None else (literal_column(f"({self.condition})", Boolean),)

    def is_row(self, signal: Any) -> bool:
        """Whether a signal was loaded as a row, for :attr:`row_sender`."""
        return self.row_sender is not None and not isinstance(signal, self.model)

    def moments(self, signals: Sequence[Any]) -> tuple[datetime, ...]:
        """When these signals were written and due, as far as it is known."""
        if not signals or self.written_at is None:
            return ()
        if self.row_sender is not None and self.is_row(signals[0]):
            written_at, due_at = self.row_sender.written_at, self.row_sender.due_at
            if due_at is None:
                return moments([signal[written_at] for signal in signals])
            return moments([later_of(signal[written_at], signal[due_at]) for signal in signals])
        written = (vars(signal).get(self.written_at) for signal in signals)
        if self.schedule is None:
            return moments(written)
        return moments(map(later_of, written, (vars(signal).get(SEND_AFTER) for signal in signals)))

    def sender(self, signals: Sequence[Any], connection: Connection) -> Callable[[list[Any]], object]:
        """What sends these signals, to be called with them: the model's own method where it takes many, else a loop.

        What it returns has to go to :func:`~signalbus_core.model.sending.senders.refuse_unfinished`. It raises

        - :class:`PartialDeliveryError` when it is known which of the signals were sent and which were not. In a loop,
          the signals after a failed one are sent as well, unless the failure was an outage;
        - :class:`EndedEarlyError` when the loop took too long; it carries the signals that were sent;
        - any other error of the model's method; the outcomes are not known then.

        :param signals: instances, or rows for :attr:`row_sender`.
        :param connection: of the burst.
        """
        if self.row_sender is not None and self.is_row(signals[0]):
            return partial(self.row_sender.send, connection=connection)
        by_class: dict[type[Any], list[Any]] = {}
        for signal in signals:
            by_class.setdefault(type(signal), []).append(signal)
        if len(by_class) > 1:
            groups = [(self._of_class(model).sender(group, connection), group) for model, group in by_class.items()]
            return lambda _: send_each(self.name, groups)
        spec = self._of_class(type(signals[0]))
        if len(signals) == 1:
            return lambda one: spec.send_one(one[0])
        return spec.send_many or spec._send_one_by_one

    def _of_class(self, model: type[Any]) -> SignalSpec:
        """The same spec, with the send methods of a class that shares the table (single-table inheritance)."""
        if model is self.model or not issubclass(model, self.model):
            return self
        return replace(self, model=model, send_one=one_sender(model), send_many=many_sender(model, self.name))

    def _send_one_by_one(self, signals: Sequence[Any]) -> None:
        delivered: list[Any] = []
        failed: list[tuple[Any, Outcome]] = []
        first_error: BaseException | None = None
        started = time.monotonic()
        for signal in signals:
            if (delivered or failed) and time.monotonic() - started > LONG_SEND_SECONDS:
                # Stop here, so that the sent signals are deleted before a timeout or a restart rolls back.
                break
            report_progress()
            if not holds_locks():
                break
            try:
                refuse_unfinished(self.name, self.send_one(signal))
            except PartialDeliveryError as error:
                outcome = outcome_of(signal, error)
            except PublishError as error:
                outcome = worst(error.outcomes)
            except BaseException as error:  # noqa: BLE001 - chained to what is raised below
                raise_if_stop(error)
                outcome = sender_failure(error, signal)
                first_error = first_error or error
            else:
                outcome = ACKED
            if outcome.kind is OutcomeKind.ACKED:
                delivered.append(signal)
                continue
            failed.append((signal, outcome))
            if outcome.is_unanswered or outcome.cause == "silent":
                # In an outage each further signal would wait for its own timeout.
                break
        if failed:
            raise PartialDeliveryError(delivered, failed) from first_error
        if len(delivered) < len(signals):
            raise EndedEarlyError(delivered)


def is_signal_model(model: object) -> bool:
    """Whether ``model`` is a mapped class with a ``send_signalbus_message`` method."""
    if not isinstance(model, type) or not callable(getattr(model, "send_signalbus_message", None)):
        return False
    return isinstance(sqlalchemy_inspect(model, raiseerr=False), Mapper)


def resolve(model: type[Any], name: str | None = None) -> SignalSpec:
    """Resolve the optional parts of a signal model.

    :param name: the name to use in logs, metrics and commands; the class name when not given.
    :raises SignalModelError: the model violates the contract.
    """
    if not is_signal_model(model):
        raise SignalModelError(
            f"{model!r} is not a signal model. A signal model is a db.Model class with a table and a method "
            "send_signalbus_message(self); RabbitMQSignal supplies one."
        )
    mapper = cast("Mapper[Any]", sqlalchemy_inspect(model))
    name = name or model.__name__
    refuse_joined_inheritance(mapper, name)
    refuse_unknown_classes(mapper, name)
    refuse_other_selectables(mapper, name)
    refuse_compound_keys(mapper, name)
    table = cast(Table, mapper.local_table)
    schedule = schedule_of(mapper, name)
    return SignalSpec(
        model=model,
        name=name,
        burst_count=min(burst_count_of(one.class_, name) for one in mapper.self_and_descendants),
        bind_key=table.metadata.info.get("bind_key"),
        send_one=one_sender(model),
        send_many=many_sender(model, name),
        written_at=written_at_attribute(mapper, name),
        condition=_condition(model),
        done=tuple(getattr(model, "signalbus_done", ())),
        row_sender=_row_sender(model),
        order=resolve_order(mapper, name, schedule),
        keep_days=keep_days_of(mapper, name),
        schedule=schedule,
        max_rate=max_rate_of(model, name),
    )


def refuse_shared_table(spec: SignalSpec, models: Iterable[type[Any]], names: Mapping[type[Any], str]) -> None:
    """Refuse a model that shares its table with another signal model: either of them could send a row.

    A model and its subclasses that share its table by single-table inheritance are one signal model.

    :param models: all signal models.
    :raises SignalModelError: another model has the same table.
    """
    for model in models:
        other = cast("Mapper[Any]", sqlalchemy_inspect(model))
        table = other.local_table
        if other.isa(spec.mapper) or spec.mapper.isa(other) or not isinstance(table, Table):
            continue
        if table.fullname == spec.table.fullname and table.metadata.info.get("bind_key") == spec.bind_key:
            raise SignalModelError(shared_table(spec.table.fullname, spec.name, names.get(model, model.__name__)))


def shared_table(table: str, *models: str) -> str:
    """The error message for several signal models on one table."""
    return (
        f"The table {table!r} belongs to several signal models, {' and '.join(models)}, so which of them sends a row "
        "is left to chance. Keep one signal model for the table; rows of several kinds are told apart by single-table "
        "inheritance below that one (polymorphic_on, polymorphic_identity), each with send methods of its own."
    )


def unique_names(models: Iterable[type[Any]]) -> dict[type[Any], str]:
    """Name each model by its class, and by module and class where a class name alone would be ambiguous."""
    listed = list(dict.fromkeys(models))
    count: dict[str, int] = {}
    for model in listed:
        count[model.__name__] = count.get(model.__name__, 0) + 1
    return {
        model: model.__name__ if count[model.__name__] == 1 else f"{model.__module__}.{model.__qualname__}"
        for model in listed
    }


def _condition(model: type[Any]) -> str | None:
    condition = getattr(model, "signalbus_condition", None)
    return condition if isinstance(condition, str) else None


def _row_sender(model: type[Any]) -> RowSender | None:
    make = getattr(model, "signalbus_row_sender", None)
    return make() if callable(make) else None
