"""The publisher: one connection for each thread, opened when it is needed, and an outcome for each message.

An outcome never claims more than the broker has answered. A connection whose answers are overdue is dropped.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from flask import Flask

from ..errors import Outcome, OutcomeKind, PartialDeliveryError, PublishError, worst
from ..failures import error_text, raise_if_stop
from ..model.sending.progress import holds_locks
from ..model.sending.sent_messages import SentMessage, wanted_messages
from .amqp.channel import BrokerConnection
from .amqp.encoder import AS_THEY_ARE, MessageMaker
from .amqp.message import Message
from .amqp.nodes import BrokerLocation
from .amqp.protocol import BrokerConnectionError, Link
from .amqp.url import BrokerNode
from .batch import Batch
from .brokers import URL_CONFIG_KEY, Brokers, Settings, positive_seconds
from .tracing import PublishTrace

#: How long a publish may take in all, when neither the call nor the configuration sets it.
DEFAULT_TIMEOUT_SECONDS = 30.0

#: How long opening a connection may take.
CONNECT_TIMEOUT_SECONDS = 10.0

S = TypeVar("S")


@dataclass(frozen=True)
class PublisherStatus:
    """The state of a publisher's connection to the broker.

    :param connected: a connection is open.
    :param blocked: the broker accepts no messages at the moment (memory or disk alarm).
    :param reason: why it is not connected, or blocked; else None.
    :param node: the node of the broker to which it is connected, without the password; None when it is not connected.
    """

    connected: bool
    blocked: bool
    reason: str | None
    node: str | None = None


class Publisher:
    """Publishes messages and waits until the broker has confirmed them. A Flask extension.

    - A call returns only when every message is confirmed: acked, and not returned.
    - Otherwise the error has the outcome of each message.
    - Each thread has its own connection; a forked process never uses its parent's.
    - The next call reopens a lost connection; of several brokers in the URL, to the next one that takes it.

    - Each of several applications uses the broker in its own configuration. An application with several brokers has a
      publisher for each, each with its own ``url_config_key``.

    :param app: the application; ``Publisher().init_app(app)`` does the same.
    :param url: of the broker, or of each of its nodes, separated by commas; taken from the application's configuration
      when not given.
    :param url_config_key: the key of the URL in the configuration.
    :param timeout_seconds: how long a publish may take; ``SIGNALBUS_RABBITMQ_TIMEOUT_SECONDS`` in the application's
      configuration, or 30 seconds, when not given.

    https://www.rabbitmq.com/docs/confirms
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        url: str | None = None,
        url_config_key: str = URL_CONFIG_KEY,
        timeout_seconds: float | None = None,
    ) -> None:
        self._brokers = Brokers(url, url_config_key, timeout_seconds)
        #: The application to use instead of the current one.
        self._app: Flask | None = None
        # Closes the connections with an AMQP close at the end of the process.
        self._finalizer = weakref.finalize(self, self._brokers.close)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the settings from the application, and register there.

        :raises SetupError: there is no URL, or it cannot be used.
        """
        self._brokers.add(app)
        # RabbitMQSignal sends to the broker of the default key, if that is configured.
        if self._brokers.url_config_key == URL_CONFIG_KEY or not app.config.get(URL_CONFIG_KEY):
            app.extensions.setdefault("signalbus_rabbitmq", self)
        publishers = app.extensions.setdefault("signalbus_publishers", [])
        if self not in publishers:
            publishers.append(self)

    def bound_to(self, app: Flask) -> Publisher:
        """This publisher with the settings of this application, which need not be current; connections are shared."""
        bound = copy.copy(self)
        bound._app = app
        return bound

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Publisher {self._brokers}>"

    @property
    def location(self) -> BrokerLocation:
        """The location of the application's broker. ``str()`` of it has no password."""
        return self._settings().broker.location

    def publish_messages(self, messages: Iterable[Message], *, timeout_seconds: float | None = None) -> None:
        """Publish messages; return when the broker has confirmed each of them.

        :param timeout_seconds: how long it may take in all.
        :raises PublishError: not every message was confirmed; ``outcomes`` has one outcome for each, in order.
        """
        batch, connection = self._begin([[message] for message in messages], timeout_seconds, AS_THEY_ARE)
        if connection is not None:
            batch.run(connection)
        if not batch.is_complete:
            raise PublishError([outcome for [outcome] in batch.outcomes()])

    def publish_signals(
        self,
        signals: Iterable[S],
        message_of: Callable[[S], Message | Sequence[Message]],
        *,
        timeout_seconds: float | None = None,
    ) -> None:
        """Publish the messages of signals; return when the broker has confirmed all of them.

        When one message of a signal cannot be sent, none of its messages is sent; other signals are not affected. A
        signal without messages counts as delivered.

        :param message_of: returns the message of a signal, or its messages. When it raises, the signal is invalid.
        :raises PartialDeliveryError: not every signal was delivered. A signal with different outcomes of its messages
          has the worst of them: unknown, then invalid, then refused.
        """
        listed = list(signals)
        maker = message_of if isinstance(message_of, MessageMaker) else MessageMaker(message_of)
        failed: dict[int, Outcome] = {}
        groups: list[list[Any]] = []
        trace = PublishTrace(self._node())
        for index, signal in enumerate(listed):
            try:
                drafts = maker.drafts(signal)
                context = maker.trace_context(signal)
                groups.append(drafts if context is None else trace.begin(index, context, drafts, maker.message))
            except BaseException as error:  # noqa: BLE001 - whatever the application's code raises is this signal's fault
                raise_if_stop(error)
                failed[index] = Outcome(OutcomeKind.INVALID, error_text(error, [signal]))
                groups.append([])
        with trace:
            batch, connection = self._begin(groups, timeout_seconds, maker)
            if connection is not None:
                batch.run(connection)
            trace.end(batch.outcomes)
        wanted = wanted_messages()
        if wanted is not None:
            for signal, group in zip(listed, groups, strict=True):
                wanted.record(signal, partial(_sent_messages, maker, group))
        if not batch.is_complete:
            for index, outcomes in enumerate(batch.outcomes()):
                bad = [outcome for outcome in outcomes if outcome.kind is not OutcomeKind.ACKED]
                if bad:
                    failed[index] = worst(bad)
        if failed:
            raise PartialDeliveryError(
                delivered=[signal for index, signal in enumerate(listed) if index not in failed],
                failed=[(listed[index], outcome) for index, outcome in sorted(failed.items())],
            )

    def connect(self, timeout_seconds: float | None = None, *, listening_within_seconds: float | None = None) -> None:
        """Open this thread's connection now, if it is not open.

        :param listening_within_seconds: within so many seconds, the broker must accept a TCP connection.
        :raises BrokerConnectionError: the broker cannot be reached.
        """
        timeout_seconds = CONNECT_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
        self._open_connection(timeout_seconds, listening_within_seconds)

    def keep_alive(self) -> None:
        """Process heartbeats, a close or a block on this thread's connection, without waiting.

        A thread that waits long between two publishes should call it at least twice per heartbeat interval.
        """
        connection = self._mine()
        if connection is not None:
            with connection.lock:
                connection.pump()

    def status(self) -> PublisherStatus:
        """The last known state of this thread's connection. The broker is not contacted."""
        connections = self._settings().broker.connections
        connection = connections.mine()
        if connection is None:
            return PublisherStatus(False, False, self._without_location(connections.last_error) or "not connected yet")
        if not connection.is_open:
            # The attempt to open another one came later, and tells why it is not open now.
            reason = self._without_location(connections.last_error) or connection.closed_reason
            return PublisherStatus(False, False, reason)
        reason = connection.blocked_reason
        return PublisherStatus(True, reason is not None, reason, str(connection.node))

    def _without_location(self, error: str | None) -> str | None:
        return error and error.removeprefix(f"{self.location}: ")

    @property
    def heartbeat_seconds(self) -> float:
        """The heartbeat of this thread's connection; 0 when there is none."""
        connection = self._mine()
        return connection.heartbeat_seconds if connection is not None and connection.is_open else 0.0

    def disconnect(self) -> None:
        """Close this thread's connection."""
        self._settings().broker.connections.close_mine()

    def close(self) -> None:
        """Close the connections of all threads. A later publish opens a new one."""
        self._brokers.close()

    def _settings(self) -> Settings:
        return self._brokers.settings(self._app)

    def _mine(self) -> Link | None:
        return self._settings().broker.connections.mine()

    def _begin(
        self, groups: list[list[Any]], timeout_seconds: float | None, maker: MessageMaker[Any]
    ) -> tuple[Batch, Link | None]:
        """A batch of these drafts, and the connection for it; None when there is nothing to send, or no broker."""
        settings = self._settings()
        timeout = positive_seconds(timeout_seconds) or settings.timeout_seconds or DEFAULT_TIMEOUT_SECONDS
        batch = Batch(groups, time.monotonic() + timeout, settings.broker.breaker, maker)
        connection = None
        if any(groups):
            last = settings.broker.connections.mine()
            try:
                connection = self._open_connection(min(timeout, CONNECT_TIMEOUT_SECONDS))
            except BrokerConnectionError as error:
                batch.give_up(f"not sent: {error}", was_sent=False)
            # The broker drops a process that stood still, and PostgreSQL ends its transaction: so whoever had to
            # connect anew asks. Nothing is sent for a burst that has lost its locks.
            if connection is not None and not holds_locks(ask=connection is not last):
                batch.give_up("not sent: the database has ended the transaction of the burst", was_sent=False)
                connection = None
        return batch, connection

    def _open_connection(self, timeout_seconds: float, listening_within_seconds: float | None = None) -> Link:
        broker = self._settings().broker
        connections = broker.connections
        connections.close_orphans()
        connection = connections.mine()
        if connection is not None:
            with connection.lock:
                # The broker may have closed it since its last use.
                connection.pump()
            if connection.is_open:
                return connection
        is_doubtful = connection is not None and connection.was_short_of_channels

        def connect(node: BrokerNode, timeout_seconds: float) -> Link:
            link = self._connect(node, timeout_seconds)
            if is_doubtful:
                # It would connect, and fail at each publish: so it counts as connected when it can publish.
                link.check_channel_limit(timeout_seconds)
            return link

        return connections.open(lambda: broker.nodes.connect(connect, timeout_seconds, listening_within_seconds))

    def _connect(self, node: BrokerNode, timeout_seconds: float) -> Link:
        return BrokerConnection(node, timeout_seconds)

    def _node(self) -> BrokerNode | None:
        """The node to which this thread publishes; None when that is decided by the next connection."""
        connection, nodes = self._mine(), self.location.nodes
        if connection is not None and connection.is_open:
            return connection.node
        return nodes[0] if len(nodes) == 1 else None


def _sent_messages(maker: MessageMaker[Any], drafts: Sequence[Any]) -> list[SentMessage]:
    return [maker.sent_message(draft) for draft in drafts]
