"""Where the messages of the models go: what the classes say, and what a few pending signals say.

The application's code runs in a read-only transaction that is rolled back. Of a message only exchange and routing key
are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from signalbus_core import SignalBus, SignalSpec, error_text, own_session
from signalbus_core.rabbitmq import Message, RabbitMQSignal

from .finding import Finding, found

#: So many pending signals of a model are asked for their messages.
MOST_SAMPLED = 20


#: Of the name of an exchange, and of a routing key, as AMQP has them.
MOST_BYTES = 255


@dataclass(frozen=True)
class Destination:
    """An exchange with a routing key; None where only the signals know."""

    model: str
    exchange: str
    routing_key: str | None


def of(app: Flask, bus: SignalBus, specs: Iterable[SignalSpec]) -> tuple[set[Destination], list[Finding]]:
    """The destinations of the models, as their signals tell, else as the classes say; and signals that tell none."""
    specs = [spec for spec in specs if issubclass(spec.model, RabbitMQSignal)]
    known, findings = _sampled(app, bus, specs)
    told = {destination.model for destination in known}
    return known | {destination for destination in stated(specs) if destination.model not in told}, findings


def stated(specs: Iterable[SignalSpec]) -> Iterator[Destination]:
    """The destinations that the classes name."""
    for spec in specs:
        if spec.model.signalbus_exchange is not None:
            yield Destination(spec.name, spec.model.signalbus_exchange, spec.model.signalbus_routing_key)


def _sampled(app: Flask, bus: SignalBus, specs: Sequence[SignalSpec]) -> tuple[set[Destination], list[Finding]]:
    """The destinations of pending signals. A database that does not answer has none; that is told elsewhere."""
    destinations: set[Destination] = set()
    findings: list[Finding] = []
    away: set[str | None] = set()
    with own_session(bus.db, app) as session:
        for spec in specs:
            if spec.bind_key in away:
                continue
            try:
                with session.no_autoflush:
                    _sample(session, spec, destinations, findings)
            except OperationalError:
                # Each try to connect takes its time, and the broker waits to be asked.
                away.add(spec.bind_key)
            except SQLAlchemyError:
                pass
            finally:
                session.rollback()
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
            remedy = (
                "Mend signalbus_message, or the signal; once it is parked, `signalbus-relay parked show` tells more."
            )
            findings.append(found("message-fails", spec.name, problem, remedy))
            return


def _destination(spec: SignalSpec, message: Message) -> Destination:
    exchange = spec.model.signalbus_exchange if message.exchange is None else message.exchange
    routing_key = spec.model.signalbus_routing_key if message.routing_key is None else message.routing_key
    for text in (exchange, routing_key):
        if not isinstance(text, str) or len(text.encode()) > MOST_BYTES:
            raise ValueError(f"its exchange or its routing key is no text of at most {MOST_BYTES} bytes")
    return Destination(spec.name, exchange, routing_key)
