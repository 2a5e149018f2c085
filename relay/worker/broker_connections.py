"""A worker's own connections to the broker: opened before signals are locked, kept alive while the worker waits.

Invariant: while the broker is away or blocks its connections, a worker notices it here and locks no rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from signalbus_core.rabbitmq import BrokerConnectionError, Publisher

from ..runtime import Runtime
from ..servers.reconnect import LISTENING_WITHIN_SECONDS

#: While the broker takes no messages, it is asked so often whether it does again.
BLOCKED_PAUSE_SECONDS = 0.5

#: Connections that are up are serviced at this interval; each publish also services its own. Longer: it may be a burst,
#: with rows locked, that notices connection.blocked; shorter: small bursts cost more.
LEFT_ALONE_SECONDS = 0.05


class BrokerConnections:
    """The calling thread's connection of each publisher that the application has.

    An application without publishers sends in its own way: the state of its broker is not known and not waited for.

    :param name: of the thread.
    """

    def __init__(self, name: str, publishers: Sequence[Publisher], runtime: Runtime) -> None:
        self._name = name
        self._publishers = publishers
        self._events = runtime.events
        self._clock = runtime.clock
        self._logger = runtime.logger.getChild("broker")
        self._servers = runtime.servers
        self._served_at = float("-inf")
        self._blocked: set[str] = set()
        #: The node of each broker that this thread is connected to, as it was told last.
        self._nodes: dict[str, str] = {}

    @property
    def pump_every_seconds(self) -> float:
        """How often :meth:`maintain` must be called, so that no heartbeat is missed."""
        heartbeats = [publisher.heartbeat_seconds for publisher in self._publishers]
        return min((seconds for seconds in heartbeats if seconds), default=20.0) / 2

    def wait(self, timeout_seconds: float) -> None:
        """Wait until a broker that is away may be tried again, or is back; at most so long."""
        away = [publisher.location for publisher in self._publishers if not publisher.status().connected]
        if len(away) < len(self._publishers):
            timeout_seconds = min(timeout_seconds, BLOCKED_PAUSE_SECONDS)
        self._servers.wait(away, timeout_seconds)

    def maintain(self) -> bool:
        """Service the connections, reconnect those that are due, and return whether one can be used.

        Of several brokers one is enough: only models that need another broker have to wait then.
        """
        if not self._publishers:
            self._events.broker_changed(self._name, "unused")
            return True
        if self._clock() - self._served_at < LEFT_ALONE_SECONDS and all(map(_is_up, self._publishers)):
            return True
        problems = [problem for publisher in self._publishers if (problem := self._serve(publisher))]
        if not problems:
            self._served_at = self._clock()
        return len(problems) < len(self._publishers)

    def _serve(self, publisher: Publisher) -> str | None:
        """Keep one connection alive, or open it; return why it cannot be used."""
        publisher.keep_alive()
        location, status = publisher.location, publisher.status()
        if not status.connected:
            if self._servers.claim(location):
                self._connect(publisher)
            elif self._servers.problem(location) is None:
                # Its turn comes: nothing is known to be wrong.
                self._events.broker_connecting(self._name, status.reason, str(location))
                return status.reason or "not connected yet"
        return self._tell(publisher)

    def _connect(self, publisher: Publisher) -> None:
        location = publisher.location
        try:
            # Connecting to a broker that does not answer lasts until the timeout; readiness must be right meanwhile.
            self._events.broker_connecting(self._name, publisher.status().reason, str(location))
            first = None if self._servers.problem(location) is None else LISTENING_WITHIN_SECONDS
            publisher.connect(listening_within_seconds=first)
        except BrokerConnectionError as error:
            self._logger.debug("%s cannot be reached.", location, exc_info=True)
            self._servers.failed(location, publisher.status().reason or str(error), was_refused=error.was_refused)
        except BaseException:
            # Others wait for the end of this try.
            self._servers.failed(location, "not connected")
            raise
        else:
            self._servers.reached(location)

    def _tell(self, publisher: Publisher) -> str | None:
        status, location = publisher.status(), str(publisher.location)
        self._blocked = self._blocked | {location} if status.blocked else self._blocked - {location}
        self._tell_node(publisher, status.node)
        if status.connected and not status.blocked:
            self._events.broker_changed(self._name, "up", None, location)
            return None
        away = None if status.connected else self._servers.problem(publisher.location)
        reason = away or status.reason or "not connected"
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
