"""A worker's own connections to the broker: opened before signals are locked, kept alive while the worker waits.

Invariant: while the broker is away or blocks its connections, a worker notices it here and locks no rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from signalbus_core.rabbitmq import BrokerConnectionError, Publisher

from ..runtime import Runtime
from .backoff import Backoff

#: The longest pause between two tries to reach the broker.
LONGEST_RECONNECT_SECONDS = 30.0

#: Connections that are up are serviced at this interval; each publish also services its own. Longer: it may be a burst,
#: with rows locked, that notices connection.blocked; shorter: small bursts cost more.
LEFT_ALONE_SECONDS = 0.05


class BrokerConnections:
    """The calling thread's connection of each publisher that the application has.

    An application without publishers sends in its own way: the state of its broker is not known and not waited for.

    :param name: of the thread.
    """

    def __init__(
        self, name: str, publishers: Sequence[Publisher], runtime: Runtime, backoff: Backoff | None = None
    ) -> None:
        self._name = name
        self._publishers = publishers
        self._events = runtime.events
        self._clock = runtime.clock
        self._logger = runtime.logger.getChild("broker")
        self._backoff = backoff or Backoff(longest_seconds=LONGEST_RECONNECT_SECONDS)
        self._retry_at = 0.0
        self._served_at = float("-inf")
        self._blocked: set[str] = set()
        #: The node of each broker that this thread is connected to, as it was told last.
        self._nodes: dict[str, str] = {}

    @property
    def pump_every_seconds(self) -> float:
        """How often :meth:`maintain` must be called, so that no heartbeat is missed."""
        heartbeats = [publisher.heartbeat_seconds for publisher in self._publishers]
        return min((seconds for seconds in heartbeats if seconds), default=20.0) / 2

    def retry_in_seconds(self) -> float:
        """How long until the next try to reach the broker."""
        return max(0.0, self._retry_at - self._clock())

    def maintain(self) -> bool:
        """Service the connections, reconnect those that are due, and return whether one can be used.

        Of several brokers one is enough: only models that need another broker have to wait then.
        """
        if not self._publishers:
            self._events.broker_changed(self._name, "unused")
            return True
        if self._clock() - self._served_at < LEFT_ALONE_SECONDS and all(map(_is_up, self._publishers)):
            return True
        due = self._clock() >= self._retry_at
        problems = [problem for publisher in self._publishers if (problem := self._serve(publisher, due))]
        if problems and due:
            self._retry_at = self._clock() + self._backoff.failed()
        if not problems:
            self._backoff.succeeded()
            self._retry_at = 0.0
            self._served_at = self._clock()
        return len(problems) < len(self._publishers)

    def _serve(self, publisher: Publisher, due: bool) -> str | None:
        """Keep one connection alive, or open it; return why it cannot be used."""
        publisher.keep_alive()
        location = str(publisher.location)
        if due and not publisher.status().connected:
            # Connecting to a broker that does not answer lasts until the timeout; readiness must be right meanwhile.
            self._events.broker_connecting(self._name, publisher.status().reason, location)
            try:
                publisher.connect()
            except BrokerConnectionError:
                self._logger.debug("%s cannot be reached.", publisher.location, exc_info=True)
        return self._tell(publisher)

    def _tell(self, publisher: Publisher) -> str | None:
        status, location = publisher.status(), str(publisher.location)
        self._blocked = self._blocked | {location} if status.blocked else self._blocked - {location}
        self._tell_node(publisher, status.node)
        if status.connected and not status.blocked:
            self._events.broker_changed(self._name, "up", None, location)
            return None
        reason = status.reason or "not connected"
        self._events.broker_changed(self._name, "blocked" if status.blocked else "down", reason, location)
        return reason

    def _tell_node(self, publisher: Publisher, node: str | None) -> None:
        location = str(publisher.location)
        if node == self._nodes.get(location):
            return
        if node is None:
            del self._nodes[location]
            return
        self._nodes[location] = node
        self._events.broker_connected(self._name, location, node)
        if len(publisher.location.nodes) > 1:
            self._logger.info("%s is connected to %s.", self._name, node, extra={"action": "broker_node_used"})

    def tell_blocked(self) -> None:
        """Tell at once, within a burst, that a broker has blocked or unblocked its connection.

        The burst goes on waiting for its confirms: an alarm may end before its deadline.
        """
        for publisher in self._publishers:
            status, location = publisher.status(), str(publisher.location)
            if status.blocked != (location in self._blocked):
                self._tell(publisher)

    def close(self) -> None:
        """Close this thread's connections."""
        for publisher in self._publishers:
            publisher.disconnect()


def _is_up(publisher: Publisher) -> bool:
    status = publisher.status()
    return status.connected and not status.blocked
