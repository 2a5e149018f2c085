"""The broker: login, version, alarms, and the exchanges and routes of the messages that go there."""

from __future__ import annotations

import re
import ssl
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import pika
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from signalbus_core.rabbitmq import Publisher

from .finding import Finding, found
from .routes import Destination, check_destination, close_code
from .versions import check_rabbitmq

BROKER_AREAS = ("versions", "broker")

#: A relay's connection has one channel for messages, and one beside it to ask for exchanges.
CHANNELS = 2

#: How RabbitMQ tells that a limit of its virtual host, of its user or of the node is reached.
_LIMIT = re.compile(r"(?:\w+ )?connection limit \(\d+\) is reached|reached the maximum allowed[\w ]*limit of \(\d+\)")

#: The time limit of connecting, and of each answer.
TIMEOUT_SECONDS = 4.0

#: connection.blocked arrives within so many seconds after a publish.
BLOCKED_AFTER_SECONDS = 2.0


def check_broker(
    publisher: Publisher, destinations: Iterable[Destination], areas: Sequence[str], *, send_probe: bool
) -> Iterator[Finding]:
    """Check one broker, and the destinations of the messages that go there."""
    subject = str(publisher.location)
    parameters = publisher.location.parameters(TIMEOUT_SECONDS)
    parameters.blocked_connection_timeout = BLOCKED_AFTER_SECONDS
    try:
        connection = pika.BlockingConnection(parameters)
    except (exceptions.AMQPError, AMQPConnectorException, OSError) as error:
        problem = connecting_finding(error, subject)
        yield problem
        if "versions" in areas:
            yield found("area-unreachable", subject, problem.problem, problem.remedy, area="versions")
        return
    try:
        if "versions" in areas:
            yield from check_rabbitmq(version_of(connection))
        if "broker" in areas:
            if (problem_text := channels_problem(connection)) is not None:
                remedy = "Set channel_max in the URL and in the broker's configuration, and the user's limit, to more."
                yield found("broker-channels", subject, problem_text, remedy)
                return
            _publish_to_nobody(connection)
            for destination in sorted(set(destinations), key=repr):
                yield from check_destination(connection, destination, send_probe=send_probe)
    except exceptions.ConnectionBlockedTimeout:
        remedy = "Free memory or disk space of the broker, or raise its watermark."
        yield found("broker-blocked", subject, "it takes no messages: a memory or disk alarm is in force", remedy)
    except (exceptions.AMQPError, OSError) as error:
        problem_text = f"the connection was lost ({type(error).__name__})"
        yield found("broker-unreachable", subject, problem_text, "See the broker's log.")
    finally:
        if connection.is_open:
            connection.close()


def channels_problem(connection: pika.BlockingConnection) -> str | None:
    """Why a connection of a relay cannot have its channels; None when it can."""
    try:
        channels = [connection.channel() for _ in range(CHANNELS)]
    except exceptions.NoFreeChannels:
        return f"a connection may have fewer channels than the {CHANNELS} that a relay needs"
    except exceptions.ConnectionClosedByBroker as error:
        return f"it allows no {CHANNELS} channels ({error.reply_code} {error.reply_text})"
    for channel in channels:
        channel.close()
    return None


def version_of(connection: pika.BlockingConnection) -> str:
    """The version in the broker's server properties; empty without one."""
    properties = getattr(getattr(connection, "_impl", None), "server_properties", None) or {}
    version = properties.get("version", b"")
    return version.decode() if isinstance(version, bytes) else str(version)


def connecting_finding(error: BaseException, subject: str) -> Finding:
    """Why the connection failed. Texts from the broker hold no password; those of libraries are not shown."""
    if isinstance(error, (exceptions.ProbableAuthenticationError, exceptions.AuthenticationError)):
        return found("broker-login", subject, "it refuses the login", "Set the right user and password in the URL.")
    if (limit := _LIMIT.search(str(error))) is not None:
        remedy = "Raise the limit (rabbitmqctl set_user_limits or set_vhost_limits), or run fewer workers."
        return found("broker-limit", subject, f"it takes no further connection: {limit[0]}", remedy)
    if isinstance(error, exceptions.ProbableAccessDeniedError):
        remedy = "Create the virtual host, or grant the user permissions on it (rabbitmqctl set_permissions)."
        return found("broker-vhost", subject, "the virtual host is missing, or closed to the user", remedy)
    causes = [error, *getattr(error, "args", ())]
    if any(isinstance(getattr(cause, "exception", cause), ssl.SSLError) for cause in causes):
        return found("broker-unreachable", subject, "TLS failed", "Check the port, and the certificates of both sides.")
    problem = f"it does not answer ({type(error).__name__})"
    return found("broker-unreachable", subject, problem, "Check that it runs, and the host and port in the URL.")


def _publish_to_nobody(connection: pika.BlockingConnection) -> None:
    """Publish an unroutable message: the broker reports an alarm only to connections that have published."""

    def publish(channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        with suppress(exceptions.UnroutableError):
            channel.basic_publish("", f"signalbus.check.{uuid.uuid4().hex}", b"", mandatory=True)

    close_code(connection, publish)
