"""The broker: login, alarms, exchanges, and routes as far as they can be known without sending.

AMQP has no way to ask for a route. A message that the broker refuses for its expiration, after it has looked at the
exchange and the permission and before it routes, tells of these two and reaches nobody.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress

import pika
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.spec import BasicProperties

from signalbus_core.rabbitmq import Publisher

from .destinations import Destination
from .finding import Finding, found
from .versions import check_rabbitmq

#: For connecting, and for each answer.
TIMEOUT_SECONDS = 4.0

#: An alarm shows within so many seconds after a publish.
BLOCKED_AFTER_SECONDS = 2.0

#: No broker takes a message with it.
NO_EXPIRATION = "signalbus-check"


def check_broker(publisher: Publisher, destinations: Iterable[Destination], *, send_probe: bool) -> Iterator[Finding]:
    """One broker, with the destinations of the messages that go there."""
    subject = str(publisher.location)
    parameters = publisher.location.parameters(TIMEOUT_SECONDS)
    parameters.blocked_connection_timeout = BLOCKED_AFTER_SECONDS
    try:
        connection = pika.BlockingConnection(parameters)
    except (exceptions.AMQPError, AMQPConnectorException, OSError) as error:
        yield judge_connecting(error, subject)
        return
    with closing(_Closing(connection)):
        properties = getattr(getattr(connection, "_impl", None), "server_properties", None) or {}
        version = properties.get("version", b"")
        yield from check_rabbitmq(version.decode() if isinstance(version, bytes) else str(version))
        try:
            _publish_to_nobody(connection)
            for destination in sorted(set(destinations), key=repr):
                yield from check_destination(connection, destination, send_probe=send_probe)
        except exceptions.ConnectionBlockedTimeout:
            remedy = "Free memory or disk space of the broker, or raise its watermark."
            yield found("broker-blocked", subject, "it takes no messages: a memory or disk alarm is in force", remedy)
        except (exceptions.AMQPError, OSError) as error:
            problem = f"the connection was lost ({type(error).__name__})"
            yield found("broker-unreachable", subject, problem, "See the broker's log.")


class _Closing:
    """A connection that may be closed already."""

    def __init__(self, connection: pika.BlockingConnection) -> None:
        self._connection = connection

    def close(self) -> None:
        if self._connection.is_open:
            self._connection.close()


def judge_connecting(error: BaseException, subject: str) -> Finding:
    """Why no connection came about. Texts of the broker's have no password; those of libraries are not shown."""
    if isinstance(error, (exceptions.ProbableAuthenticationError, exceptions.AuthenticationError)):
        return found("broker-login", subject, "it refuses the login", "Set the right user and password in the URL.")
    if isinstance(error, exceptions.ProbableAccessDeniedError):
        remedy = "Create the virtual host, or grant the user permissions on it (rabbitmqctl set_permissions)."
        return found("broker-vhost", subject, "the virtual host is missing, or closed to the user", remedy)
    causes = [error, *getattr(error, "args", ())]
    if any(isinstance(getattr(cause, "exception", cause), ssl.SSLError) for cause in causes):
        return found("broker-unreachable", subject, "TLS failed", "Check the port, and the certificates of both sides.")
    problem = f"it does not answer ({type(error).__name__})"
    return found("broker-unreachable", subject, problem, "Check that it runs, and the host and port in the URL.")


def check_destination(
    connection: pika.BlockingConnection, destination: Destination, *, send_probe: bool
) -> Iterator[Finding]:
    """An exchange, and its route: by the name of the queue, by a message of ours, or not at all."""
    exchange, key = destination.exchange, destination.routing_key
    place = f"{destination.model}: exchange {exchange!r}"
    if exchange == "":
        if key is not None and _closes(connection, lambda channel: channel.queue_declare(key, passive=True)) == 404:
            problem = f"the default exchange leads to the queue {key!r}, which does not exist"
            yield found("queue-missing", destination.model, problem, "Declare the queue, or name an exchange.")
        return
    if _closes(connection, lambda channel: channel.exchange_declare(exchange, passive=True)) == 404:
        yield found("exchange-missing", place, "it does not exist", "Declare it before the relay starts.")
    elif _closes(connection, lambda channel: _publish_unsendable(channel, exchange, key or "")) == 403:
        problem = "it is internal, or the user may not write to it"
        yield found("exchange-refused", place, problem, "Grant the user write permission, or name another exchange.")
    elif key is None:
        yield found("route-unproved", place, "no pending signal tells a routing key")
    elif not send_probe:
        yield found("route-unproved", f"{place}, key {key!r}", "a route is proved only by sending: --send-probe")
    elif _is_returned(connection, exchange, key):
        remedy = "Bind a queue to the exchange with this key."
        yield found("route-missing", f"{place}, key {key!r}", "it reaches no queue", remedy)


def _closes(connection: pika.BlockingConnection, act: Callable[[BlockingChannel], object]) -> int:
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


def _publish_to_nobody(connection: pika.BlockingConnection) -> None:
    """A publisher is told of an alarm only after it has published; the default exchange has no queue of this name."""

    def publish(channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        with suppress(exceptions.UnroutableError):
            channel.basic_publish("", f"signalbus.check.{uuid.uuid4().hex}", b"", mandatory=True)

    _closes(connection, publish)


def _is_returned(connection: pika.BlockingConnection, exchange: str, key: str) -> bool:
    channel = connection.channel()
    channel.confirm_delivery()
    properties = BasicProperties(expiration="0", type="signalbus.check")
    try:
        channel.basic_publish(exchange, key, b"", properties, mandatory=True)
    except exceptions.UnroutableError:
        return True
    finally:
        if channel.is_open:
            channel.close()
    return False
