"""The messages of a signal, and whether the broker has their exchanges and queues. Payloads are not read.

Invariant: the application's code runs in a read-only transaction that is rolled back, and nothing is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pika
from flask import Flask
from pika import exceptions
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import SignalBus
from signalbus_core.lowlevel import BurstLimits, Key, SignalSpec, error_text, own_session, raise_if_stop, set_limits
from signalbus_core.rabbitmq import Message, Publisher, RabbitMQSignal, as_messages, failure_of

from ..checks.broker import connect
from ..checks.routes import close_code

#: Time limits of the transaction that loads a signal.
LIMITS = BurstLimits(statement_timeout_seconds=20.0, lock_timeout_seconds=2.0)


@dataclass(frozen=True)
class Route:
    """The destination of a message; a field is None when neither the message nor its model sets it."""

    exchange: str | None
    routing_key: str | None


@dataclass(frozen=True)
class Messages:
    """The messages of a signal.

    :param routes: one for each message.
    :param trouble: why the application's code makes none; None when it does.
    """

    routes: tuple[Route, ...] = ()
    trouble: str | None = None


@dataclass(frozen=True)
class BrokerAnswer:
    """The answer of the broker.

    :param remedy: what to do about it; None when nothing is wrong.
    """

    text: str
    remedy: str | None = None


def messages_of(app: Flask, bus: SignalBus, spec: SignalSpec, key: Key) -> Messages | None:
    """The messages of a signal; None when its model has its own send method, or the row is gone meanwhile."""
    if not issubclass(spec.model, RabbitMQSignal):
        return None
    with own_session(bus.db, app) as session:
        try:
            connection = session.connection(
                bind_arguments={"mapper": spec.mapper}, execution_options={"postgresql_readonly": True}
            )
            set_limits(connection, LIMITS)
            signal = session.get(spec.model, key if len(key) > 1 else key[0])
            if signal is None:
                return None
            with session.no_autoflush:
                return _messages(signal)
        except SQLAlchemyError as error:
            return Messages(trouble=error_text(error))
        except BaseException as error:  # noqa: BLE001 - the types of the application's columns may raise anything
            raise_if_stop(error)
            # The text of the error may hold the value of a column, and without a signal it cannot be redacted.
            return Messages(trouble=f"its row cannot be loaded ({type(error).__name__})")
        finally:
            session.rollback()


def _messages(signal: Any) -> Messages:
    try:
        return Messages(tuple(_route(signal, message) for message in as_messages(signal.signalbus_message())))
    except BaseException as error:  # noqa: BLE001 - the application's code raises what it likes
        raise_if_stop(error)
        return Messages(trouble=error_text(error, [signal]))


def _route(signal: Any, message: Message) -> Route:
    exchange, routing_key = message.exchange, message.routing_key
    return Route(
        signal.signalbus_exchange if exchange is None else exchange,
        signal.signalbus_routing_key if routing_key is None else routing_key,
    )


def query_broker(
    publisher: Publisher, routes: Sequence[Route], *, was_returned: bool = False
) -> Iterator[BrokerAnswer]:
    """Whether the exchanges exist, and the queues to which the default exchange routes.

    :param was_returned: the broker has returned a message of the signal: no queue got it.
    """
    broker = f"The broker {publisher.location}"
    connection, problems = connect(publisher.location)
    if connection is None:
        yield BrokerAnswer(f"{broker} cannot be asked: {problems[0].problem}.", problems[0].remedy)
        return
    try:
        for route in dict.fromkeys(routes):
            yield _check_route(connection, route, was_returned=was_returned)
    except (exceptions.AMQPError, OSError) as error:
        yield BrokerAnswer(f"{broker} was lost during the query: {failure_of(error).text}.", "See the broker's log.")
    finally:
        if connection.is_open:
            connection.close()


def _check_route(connection: pika.BlockingConnection, route: Route, *, was_returned: bool) -> BrokerAnswer:
    exchange, key = route.exchange, route.routing_key
    if exchange is None or key is None:
        return BrokerAnswer(
            "A message names no exchange, or no routing key.", "Have the message, or its model, name both."
        )
    if exchange == "":
        if close_code(connection, lambda channel: channel.queue_declare(key, passive=True)) == 404:
            return BrokerAnswer(
                f"The queue {key!r} does not exist.", f"Declare the queue {key!r}, or name an exchange."
            )
        return BrokerAnswer(f"The queue {key!r} exists.")
    if close_code(connection, lambda channel: channel.exchange_declare(exchange, passive=True)) == 404:
        return BrokerAnswer(f"The exchange {exchange!r} does not exist.", f"Declare the exchange {exchange!r}.")
    if was_returned:
        return BrokerAnswer(f"The exchange {exchange!r} exists; when it was sent last, {key!r} reached no queue.")
    return BrokerAnswer(f"The exchange {exchange!r} exists; whether {key!r} reaches a queue is known only by sending.")
