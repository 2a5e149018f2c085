"""The broker: login, version, alarms, and the exchanges and routes of the messages that go there."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import pika
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from signalbus_core.rabbitmq import BrokerLocation, Publisher, failure_of

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

#: Connecting to all nodes of a broker may take so long.
CONNECT_SECONDS = 8.0

#: connection.blocked arrives within so many seconds after a publish.
BLOCKED_AFTER_SECONDS = 2.0


def check_broker(
    publisher: Publisher, destinations: Iterable[Destination], areas: Sequence[str], *, send_probe: bool
) -> Iterator[Finding]:
    """Check one broker, and the destinations of the messages that go there."""
    subject, names = str(publisher.location), list[str]()
    connection, problems = connect(publisher.location)
    if connection is None:
        yield from problems
        if "versions" in areas:
            first = problems[0]
            yield found("area-unreachable", first.subject, first.problem, first.remedy, area="versions")
        return
    yield from (found("broker-node", one.subject, one.problem, one.remedy) for one in problems)
    try:
        if "versions" in areas:
            yield from check_rabbitmq(version_of(connection))
        if "broker" in areas:
            if (problem_text := channels_problem(connection)) is not None:
                remedy = "Set channel_max in the URL and in the broker's configuration, and the user's limit, to more."
                yield found("broker-channels", subject, problem_text, remedy)
                return
            names = _listen_for_alarm(connection)
            _publish_to_nobody(connection)
            for destination in sorted(set(destinations), key=repr):
                yield from check_destination(connection, destination, send_probe=send_probe)
    except exceptions.ConnectionBlockedTimeout:
        yield blocked(subject, names)
    except (exceptions.AMQPError, OSError) as error:
        yield _lost(subject, error)
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
    """Why the connection failed, in the words of relays. No text holds a password."""
    if (limit := _LIMIT.search(str(error))) is not None:
        remedy = "Raise the limit (rabbitmqctl set_user_limits or set_vhost_limits), or run fewer workers."
        return found("broker-limit", subject, f"it takes no further connection: {limit[0]}", remedy)
    failure = failure_of(error)
    code = next((code for kinds, code in _CODES if isinstance(error, kinds)), "broker-unreachable")
    return found(code, subject, failure.text, failure.remedy or _REMEDY)


_CODES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((exceptions.ProbableAuthenticationError, exceptions.AuthenticationError), "broker-login"),
    ((exceptions.ProbableAccessDeniedError,), "broker-vhost"),
)

_REMEDY = "Check that the broker runs, and the host and port in its URL."


def connect(location: BrokerLocation) -> tuple[pika.BlockingConnection | None, list[Finding]]:
    """A connection to the first node that takes it, None without one; and why the others of all nodes do not."""
    connection, problems = None, []
    timeout_seconds = min(TIMEOUT_SECONDS, CONNECT_SECONDS / len(location.nodes))
    for node in location.nodes:
        parameters = node.parameters(timeout_seconds)
        parameters.blocked_connection_timeout = BLOCKED_AFTER_SECONDS
        try:
            opened = pika.BlockingConnection(parameters)
        except (exceptions.AMQPError, AMQPConnectorException, OSError) as error:
            problems.append(connecting_finding(error, str(node)))
            continue
        if connection is None:
            connection = opened
        else:
            opened.close()
    return connection, problems


def _listen_for_alarm(connection: pika.BlockingConnection) -> list[str]:
    """A list to which the names of an alarm are added when the broker reports one, which it does after a publish."""
    names: list[str] = []
    inner = getattr(connection, "_impl", None)
    if inner is not None:
        inner.add_on_connection_blocked_callback(lambda _connection, told: names.append(told.method.reason))
    return names


def broker_problem(publisher: Publisher) -> Finding | None:
    """Why a broker takes no messages: it does not answer, or has raised an alarm. None when it takes them."""
    subject, names = str(publisher.location), list[str]()
    connection, problems = connect(publisher.location)
    if connection is None:
        return problems[0]
    try:
        names = _listen_for_alarm(connection)
        _publish_to_nobody(connection)
    except exceptions.ConnectionBlockedTimeout:
        return blocked(subject, names)
    except (exceptions.AMQPError, OSError) as error:
        return _lost(subject, error)
    finally:
        if connection.is_open:
            connection.close()
    return None


#: How a finding about an alarm begins.
ALARM = "it takes no messages: "


def blocked(subject: str, names: Sequence[str]) -> Finding:
    """:param names: those of the alarms, as the broker tells them."""
    alarm = names[0] if names else "a memory or disk alarm is in force"
    remedy = "Free memory or disk space of the broker, or raise its watermark."
    return found("broker-blocked", subject, f"{ALARM}{alarm}", remedy)


def _lost(subject: str, error: BaseException) -> Finding:
    failure = failure_of(error)
    return found("broker-unreachable", subject, failure.text, failure.remedy or "See the broker's log.")


def _publish_to_nobody(connection: pika.BlockingConnection) -> None:
    """Publish an unroutable message: the broker reports an alarm only to connections that have published."""

    def publish(channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        with suppress(exceptions.UnroutableError):
            channel.basic_publish("", f"signalbus.check.{uuid.uuid4().hex}", b"", mandatory=True)

    close_code(connection, publish)
