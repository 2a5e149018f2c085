"""The signal models as classes. Needs no server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from signalbus_core import SignalBus, SignalBusError, signal_id_sql
from signalbus_core.lowlevel import SIGNAL_ID, SignalSpec, has_signal_id
from signalbus_core.rabbitmq import RabbitMQSignal

from .finding import Finding, found

Models = Sequence[type[Any]]


def resolve_models(bus: SignalBus, models: Models) -> tuple[list[SignalSpec], list[Finding]]:
    """The models that fulfil the signal-model contract, and what is wrong with the others."""
    specs: list[SignalSpec] = []
    findings: list[Finding] = []
    for model in models:
        try:
            specs += bus.specs([model])
        except SignalBusError as error:
            remedy = "Change the model so that it keeps the contract."
            findings.append(found("model-contract", model.__name__, str(error), remedy))
    return specs, findings


def choose(
    specs: Sequence[SignalSpec], models: Models, names: Sequence[str]
) -> tuple[Sequence[SignalSpec], list[Finding]]:
    """The models that ``--signals`` names; all when it names none."""
    known = {spec.name for spec in specs} | {model.__name__ for model in models}
    unknown = [
        found("signals-unknown", f"--signals {name}", "there is no such signal model", f"Name one of {_listed(known)}.")
        for name in names
        if name not in known
    ]
    return [spec for spec in specs if not names or {spec.name, spec.model.__name__} & set(names)], unknown


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def check_ids(specs: Sequence[SignalSpec]) -> Iterator[Finding]:
    """Models whose message ids come from a primary key that may be reused."""
    for spec in specs:
        is_ours = issubclass(spec.model, RabbitMQSignal)
        # A table without an application may have a column for the id of the message.
        has_id = has_signal_id(spec.mapper) or "message_id" in getattr(spec.model, "signalbus_fields", ())
        if is_ours and not has_id:
            parts = "key alone" if spec.written_at is None else "key and time of writing"
            problem = (
                f"its messages get ids of database, table, {parts}: a key that comes again, after a failover to a "
                "standby that lagged, TRUNCATE ... RESTART IDENTITY or a restore, gives a new signal the id of an old "
                "one, and consumers drop it"
                + ("" if spec.written_at is None else ", if it was written at the same microsecond")
            )
            remedy = f"Add the column {SIGNAL_ID}: {'; '.join(signal_id_sql(spec.table))}."
            yield found("signal-id-missing", spec.name, problem, remedy)


def check_models(models: Models) -> Iterator[Finding]:
    """Models that define no message: each of their signals would be parked."""
    for model in models:
        if issubclass(model, RabbitMQSignal) and model.signalbus_message is RabbitMQSignal.signalbus_message:
            yield found(
                "message-undefined",
                model.__name__,
                "it does not define signalbus_message",
                "Define signalbus_message(self), which returns a Message.",
            )
