"""Where the messages of the models go: what the classes say, and what a few pending signals say.

The application's code runs in a read-only transaction that is rolled back. Of a message only exchange and routing key
are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from signalbus_core import SignalBus, SignalSpec, error_text
from signalbus_core.rabbitmq import Message, RabbitMQSignal

from .finding import Finding, found

#: So many pending signals of a model are asked for their messages.
MOST_SAMPLED = 20


@dataclass(frozen=True)
class Destination:
    """An exchange with a routing key; None where only the signals know."""

    model: str
    exchange: str
    routing_key: str | None


def stated(specs: Iterable[SignalSpec]) -> set[Destination]:
    """The destinations that the classes name."""
    return {
        Destination(spec.name, spec.model.signalbus_exchange, spec.model.signalbus_routing_key)
        for spec in specs
        if issubclass(spec.model, RabbitMQSignal) and spec.model.signalbus_exchange is not None
    }


def sampled(app: Flask, bus: SignalBus, specs: Sequence[SignalSpec]) -> tuple[set[Destination], list[Finding]]:
    """The destinations of pending signals. A database that does not answer has none; that is told elsewhere."""
    destinations: set[Destination] = set()
    findings: list[Finding] = []
    with app.app_context():
        session: Any = bus.db.session()
        for spec in specs:
            if issubclass(spec.model, RabbitMQSignal):
                try:
                    with session.no_autoflush:
                        _sample(session, spec, destinations, findings)
                except SQLAlchemyError:
                    pass
                finally:
                    session.rollback()
        session.close()
    return destinations, findings


def _sample(session: Session, spec: SignalSpec, destinations: set[Destination], findings: list[Finding]) -> None:
    session.connection(bind_arguments={"mapper": spec.mapper}, execution_options={"postgresql_readonly": True})
    for signal in session.scalars(select(spec.model).limit(MOST_SAMPLED)).all():
        try:
            messages = signal.signalbus_message()
            for message in [messages] if isinstance(messages, Message) else messages:
                destinations.add(_destination(spec, message))
        except SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001 - the application's code raises what it likes
            problem = f"a pending signal has no message: {error_text(error, [signal])}"
            findings.append(found("message-fails", spec.name, problem, "Mend signalbus_message, or the signal."))
            return


def _destination(spec: SignalSpec, message: Message) -> Destination:
    exchange = spec.model.signalbus_exchange if message.exchange is None else message.exchange
    routing_key = spec.model.signalbus_routing_key if message.routing_key is None else message.routing_key
    if exchange is None or routing_key is None:
        raise ValueError("its exchange or its routing key is None")
    return Destination(spec.name, exchange, routing_key)
