"""The broker: login, version, alarms, and the exchanges and routes of the messages that go there."""

from __future__ import annotations

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
from .routes import Destination, check_destination, closes
from .versions import check_rabbitmq

BROKER_AREAS = ("versions", "broker")

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
        problem = judge_connecting(error, subject)
        yield problem
        if "versions" in areas:
            yield found("area-unreachable", subject, problem.problem, problem.remedy, area="versions")
        return
    try:
        if "versions" in areas:
            yield from check_rabbitmq(version_of(connection))
        if "broker" in areas:
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


def version_of(connection: pika.BlockingConnection) -> str:
    """The version in the broker's server properties; empty without one."""
    properties = getattr(getattr(connection, "_impl", None), "server_properties", None) or {}
    version = properties.get("version", b"")
    return version.decode() if isinstance(version, bytes) else str(version)


def judge_connecting(error: BaseException, subject: str) -> Finding:
    """Why the connection failed. Texts from the broker hold no password; those of libraries are not shown."""
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


def _publish_to_nobody(connection: pika.BlockingConnection) -> None:
    """Publish an unroutable message: the broker reports an alarm only to connections that have published."""

    def publish(channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        with suppress(exceptions.UnroutableError):
            channel.basic_publish("", f"signalbus.check.{uuid.uuid4().hex}", b"", mandatory=True)

    closes(connection, publish)
