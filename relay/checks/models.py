"""The signal models as classes. Needs no server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from signalbus_core import SignalBus, SignalBusError, SignalSpec
from signalbus_core.rabbitmq import RabbitMQSignal

from .finding import Finding, found

Models = Sequence[type[Any]]


def resolve_models(bus: SignalBus, models: Models) -> tuple[list[SignalSpec], list[Finding]]:
    """The models that keep the contract, and what is wrong with the others."""
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


def check_models(models: Models) -> Iterator[Finding]:
    """A model whose message is not defined parks each of its signals."""
    for model in models:
        if issubclass(model, RabbitMQSignal) and model.signalbus_message is RabbitMQSignal.signalbus_message:
            yield found(
                "message-undefined",
                model.__name__,
                "it does not define signalbus_message",
                "Define signalbus_message(self), which returns a Message.",
            )
