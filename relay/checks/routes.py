"""The destinations of the models' messages, from the classes and from a few pending signals.

Invariant: the application's code runs in a read-only transaction that is rolled back. Of a message only exchange and
routing key are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pika
from flask import Flask
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties
from sqlalchemy import select
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from signalbus_core import SignalBus
from signalbus_core.lowlevel import BurstLimits, SignalSpec, error_text, own_session, raise_if_stop, set_limits
from signalbus_core.rabbitmq import Message, RabbitMQSignal

from ..poller.joint_query import is_lock_timeout
from .finding import Finding, found

#: The number of pending signals of a model whose messages are made. Larger: more destinations are found.
MOST_SAMPLED = 20

#: A table that is locked, or slow, must not take the time in which the broker is checked.
LIMITS = BurstLimits(statement_timeout_seconds=2.0, lock_timeout_seconds=0.5, idle_timeout_seconds=10.0)

#: The AMQP limit for the name of an exchange, and for a routing key.
LONGEST_NAME_BYTES = 255


@dataclass(frozen=True)
class Destination:
    """An exchange with a routing key; None where only the signals define it."""

    model: str
    exchange: str
    routing_key: str | None


def find_destinations(
    app: Flask, bus: SignalBus, specs: Iterable[SignalSpec]
) -> tuple[set[Destination], list[Finding]]:
    """The destinations of the models, from their signals, else from the classes; and signals without one."""
    specs = [spec for spec in specs if issubclass(spec.model, RabbitMQSignal)]
    known, findings = _sampled(app, bus, specs)
    sampled = {destination.model for destination in known}
    return known | {destination for destination in stated(specs) if destination.model not in sampled}, findings


def stated(specs: Iterable[SignalSpec]) -> Iterator[Destination]:
    """The destinations that the classes define."""
    for spec in specs:
        if spec.model.signalbus_exchange is not None:
            yield Destination(spec.name, spec.model.signalbus_exchange, spec.model.signalbus_routing_key)


def _sampled(app: Flask, bus: SignalBus, specs: Sequence[SignalSpec]) -> tuple[set[Destination], list[Finding]]:
    """The destinations of pending signals; none when the database does not answer, which another check reports."""
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
            except OperationalError as error:
                # Each try to connect takes time from the deadline of the broker checks.
                if not is_lock_timeout(error):
                    away.add(spec.bind_key)
            except SQLAlchemyError:
                pass
            finally:
                session.rollback()
    return destinations, findings


def _sample(session: Session, spec: SignalSpec, destinations: set[Destination], findings: list[Finding]) -> None:
    options = {"postgresql_readonly": True}
    connection = session.connection(bind_arguments={"mapper": spec.mapper}, execution_options=options)
    set_limits(connection, LIMITS)
    for signal in session.scalars(select(spec.model).where(*spec.is_signal).limit(MOST_SAMPLED)).all():
        try:
            messages = signal.signalbus_message()
            for message in [messages] if isinstance(messages, Message) else messages:
                destinations.add(_destination(spec, message))
        except SQLAlchemyError:
            raise
        except BaseException as error:  # noqa: BLE001 - the application's code raises what it likes
            raise_if_stop(error)
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
        if not isinstance(text, str) or len(text.encode()) > LONGEST_NAME_BYTES:
            raise ValueError(f"its exchange or its routing key is no text of at most {LONGEST_NAME_BYTES} bytes")
    return Destination(spec.name, exchange, routing_key)


#: An invalid expiration, so that the broker refuses the message.
NO_EXPIRATION = "signalbus-check"


def check_destination(
    connection: pika.BlockingConnection, destination: Destination, *, send_probe: bool
) -> Iterator[Finding]:
    """Check an exchange and, by the queue's name or a test message, its route; without either, only the exchange."""
    exchange, key = destination.exchange, destination.routing_key
    place = f"{destination.model}: exchange {exchange!r}"
    if exchange == "":
        if key is not None and close_code(connection, lambda channel: channel.queue_declare(key, passive=True)) == 404:
            problem = f"the default exchange leads to the queue {key!r}, which does not exist"
            yield found("queue-missing", destination.model, problem, "Declare the queue, or name an exchange.")
        return
    if close_code(connection, lambda channel: channel.exchange_declare(exchange, passive=True)) == 404:
        yield found("exchange-missing", place, "it does not exist", "Declare it; until then its signals wait.")
    elif close_code(connection, lambda channel: _publish_unsendable(channel, exchange, key or "")) == 403:
        problem = "it is internal, or the user may not write to it"
        yield found("exchange-refused", place, problem, "Grant the user write permission, or name another exchange.")
    elif key is None:
        yield found("route-unproved", place, "no pending signal tells a routing key")
    elif not send_probe:
        yield found("route-unproved", f"{place}, key {key!r}", "a route is proved only by sending: --send-probe")
    else:
        yield from _send_probe(connection, exchange, key, f"{place}, key {key!r}")


def close_code(connection: pika.BlockingConnection, act: Callable[[BlockingChannel], object]) -> int:
    """The reply code with which the broker closes the channel after an action; 0 when it does not."""
    channel = connection.channel()
    try:
        act(channel)
    except exceptions.ChannelClosedByBroker as error:
        return int(error.reply_code)
    channel.close()
    return 0


def _publish_unsendable(channel: BlockingChannel, exchange: str, key: str) -> None:
    channel.confirm_delivery()
    properties = BasicProperties(expiration=NO_EXPIRATION, type="signalbus.check")
    channel.basic_publish(exchange, key, b"", properties)


def _send_probe(connection: pika.BlockingConnection, exchange: str, key: str, route: str) -> Iterator[Finding]:
    channel = connection.channel()
    channel.confirm_delivery()
    properties = BasicProperties(expiration="0", type="signalbus.check")
    try:
        channel.basic_publish(exchange, key, b"", properties, mandatory=True)
    except exceptions.UnroutableError:
        remedy = "Bind a queue to the exchange with this key."
        yield found("route-missing", route, "it reaches no queue", remedy)
    except exceptions.NackError:
        remedy = "Have its consumers catch up, or raise its limit."
        yield found("route-refused", route, "a queue took no message: it is full, or its node is away", remedy)
    finally:
        if channel.is_open:
            channel.close()
