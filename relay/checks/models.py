"""The signal models as classes. Needs no server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from signalbus_core import SignalBus, SignalBusError, SignalSpec
from signalbus_core.rabbitmq import RabbitMQSignal

from .finding import Finding, found


def resolve_models(bus: SignalBus) -> tuple[list[SignalSpec], list[Finding]]:
    """The models that keep the contract, and what is wrong with the others."""
    specs: list[SignalSpec] = []
    findings: list[Finding] = []
    for model in bus.get_signal_models():
        try:
            specs += bus.specs([model])
        except SignalBusError as error:
            findings.append(
                found("model-contract", model.__name__, str(error), "Change the model so that it keeps the contract.")
            )
    return specs, findings


def check_models(models: Sequence[type[Any]]) -> Iterator[Finding]:
    """A model whose message is not defined parks each of its signals."""
    for model in models:
        if issubclass(model, RabbitMQSignal) and model.signalbus_message is RabbitMQSignal.signalbus_message:
            yield found(
                "message-undefined",
                model.__name__,
                "it does not define signalbus_message",
                "Define signalbus_message(self), which returns a Message.",
            )
