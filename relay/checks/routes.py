"""Exchanges and routes, as far as they can be known without sending.

AMQP has no way to ask for a route. A message that the broker refuses for its expiration, after it has looked at the
exchange and the permission and before it routes, tells of these two and reaches nobody.
https://www.rabbitmq.com/docs/ttl#per-message-ttl-in-publishers
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pika
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from .destinations import Destination
from .finding import Finding, found

#: No broker takes a message with it.
NO_EXPIRATION = "signalbus-check"


def check_destination(
    connection: pika.BlockingConnection, destination: Destination, *, send_probe: bool
) -> Iterator[Finding]:
    """An exchange, and its route: by the name of the queue, by a message of ours, or not at all."""
    exchange, key = destination.exchange, destination.routing_key
    place = f"{destination.model}: exchange {exchange!r}"
    if exchange == "":
        if key is not None and closes(connection, lambda channel: channel.queue_declare(key, passive=True)) == 404:
            problem = f"the default exchange leads to the queue {key!r}, which does not exist"
            yield found("queue-missing", destination.model, problem, "Declare the queue, or name an exchange.")
        return
    if closes(connection, lambda channel: channel.exchange_declare(exchange, passive=True)) == 404:
        yield found("exchange-missing", place, "it does not exist", "Declare it before the relay starts.")
    elif closes(connection, lambda channel: _publish_unsendable(channel, exchange, key or "")) == 403:
        problem = "it is internal, or the user may not write to it"
        yield found("exchange-refused", place, problem, "Grant the user write permission, or name another exchange.")
    elif key is None:
        yield found("route-unproved", place, "no pending signal tells a routing key")
    elif not send_probe:
        yield found("route-unproved", f"{place}, key {key!r}", "a route is proved only by sending: --send-probe")
    else:
        yield from _send_probe(connection, exchange, key, f"{place}, key {key!r}")


def closes(connection: pika.BlockingConnection, act: Callable[[BlockingChannel], object]) -> int:
    """The code with which the broker closes a channel over an action; 0 when it does not."""
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
