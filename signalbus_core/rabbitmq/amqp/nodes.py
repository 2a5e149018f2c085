"""The nodes of a broker: one URL, or several separated by commas, and the order in which they are tried.

Invariant: a node that fails costs a connection no more than its share of the time limit, while another one works.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ...errors import SetupError
from ...tcp import first_listening
from .protocol import BrokerConnectionError
from .url import BrokerNode

#: A node that failed is tried after the others for so many seconds. Longer: a node that is back gets connections later;
#: shorter: one that does not answer delays more of them.
AVOIDED_SECONDS = 60.0

#: A comma ends a URL when another one follows, or nothing: the query may have commas of its own.
_SEPARATOR = re.compile(r",(?=\s*(?:$|,|[A-Za-z][A-Za-z0-9+.-]*://))")

logger = logging.getLogger("signalbus.rabbitmq")

T = TypeVar("T")


class BrokerLocation:
    """The nodes of a broker, from ``amqp://user:password@host:port/vhost`` or several such URLs separated by commas.

    All nodes have one scheme and one virtual host. ``str()`` of it has no password. Compared by value.

    :raises SetupError: a URL cannot be used; of several, the text says which.
    """

    def __init__(self, urls: str) -> None:
        texts = [text.strip() for text in _SEPARATOR.split(urls)]
        nodes = [_node(text, number, len(texts)) for number, text in enumerate(texts, 1)]
        #: In the order of the URL.
        self.nodes: tuple[BrokerNode, ...] = tuple(dict.fromkeys(nodes))
        _refuse_others("schemes", [node.scheme for node in nodes])
        _refuse_others("virtual hosts", [node.virtual_host for node in nodes])

    def __str__(self) -> str:
        return ", ".join(map(str, self.nodes))

    def __repr__(self) -> str:
        return f"<BrokerLocation {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BrokerLocation) and self.nodes == other.nodes

    def __hash__(self) -> int:
        return hash(self.nodes)


def _node(text: str, number: int, count: int) -> BrokerNode:
    try:
        if not text and count > 1:
            raise SetupError("The RabbitMQ URL is empty: a comma stands between two URLs, and nowhere else.")
        # A comma in the query belongs to its options.
        if "," in re.split(r"[?#]", text)[0]:
            raise SetupError(
                "The RabbitMQ URL has a comma: several are each written in full, amqp://user:password@host/vhost,"
                "amqp://...; within a password or a virtual host, a comma is written as %2C."
            )
        return BrokerNode(text)
    except SetupError as error:
        if count == 1:
            raise
        raise SetupError(str(error).replace("RabbitMQ URL", f"RabbitMQ URL {number} of {count}", 1)) from None


def _refuse_others(what: str, found: Sequence[str]) -> None:
    if len(different := list(dict.fromkeys(found))) > 1:
        names = " and ".join(map(repr, different[:2]))
        raise SetupError(
            f"The RabbitMQ URLs have different {what}, {names}: they must lead to the nodes of one cluster."
        )


def _listening(nodes: Sequence[BrokerNode], within_seconds: float) -> tuple[list[BrokerNode], dict[BrokerNode, str]]:
    """The nodes that may accept a connection, the one that did first; and why the others do not."""
    accepting, reasons = first_listening([node.host_and_port for node in nodes], within_seconds)
    problems = {node: reasons[node.host_and_port] for node in nodes if node.host_and_port in reasons}
    left = [node for node in nodes if node not in problems]
    return sorted(left, key=lambda node: node.host_and_port != accepting), problems


class NodeOrder:
    """Connects the threads of a process to the nodes of a broker.

    - The first connection goes to a node at random, each further one to the next: so they are spread.
    - Where a node fails, the next one is tried, within the same time limit.
    - A node that has failed is tried last for a while.
    - That a node fails while another one works is logged once, until it works again.

    :param clock: a monotonic clock, in seconds.
    :param choose: a random number below the given one, like :func:`random.randrange`.
    """

    def __init__(
        self,
        location: BrokerLocation,
        clock: Callable[[], float] = time.monotonic,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        self._location = location
        self._clock = clock
        self._lock = threading.Lock()
        self._next = choose(len(location.nodes))
        #: When each node failed last, since it last worked.
        self._failed_at: dict[BrokerNode, float] = {}
        self._told: set[BrokerNode] = set()

    def take(self) -> list[BrokerNode]:
        """The nodes in the order in which the next connection tries them."""
        with self._lock:
            nodes, first = self._location.nodes, self._next
            self._next = (first + 1) % len(nodes)
            turned = [*nodes[first:], *nodes[:first]]
            return sorted(turned, key=self._avoided_since)

    def connect(
        self,
        connect: Callable[[BrokerNode, float], T],
        timeout_seconds: float,
        listening_within_seconds: float | None = None,
    ) -> T:
        """Connect to the first node that takes it.

        :param connect: connects to a node within a time limit.
        :param listening_within_seconds: first find a node that accepts a TCP connection within so many seconds.
        :raises BrokerConnectionError: no node takes it; the text has the reason of each.
        """
        nodes, problems, refusing = self.take(), dict[BrokerNode, str](), set[BrokerNode]()
        if listening_within_seconds is not None:
            nodes, problems = _listening(nodes, listening_within_seconds)
        # Resolving the names may have taken long.
        deadline = self._clock() + timeout_seconds
        for tried, node in enumerate(nodes):
            left = deadline - self._clock()
            if problems and left <= 0:
                problems[node] = "not tried in time"
                continue
            try:
                connection = connect(node, left / (len(nodes) - tried))
            except BrokerConnectionError as error:
                problems[node] = str(error).removeprefix(f"{node}: ")
                if error.was_refused:
                    refusing.add(node)
                self._note_failure(node)
                continue
            self._note_success(node, problems)
            return connection
        reasons = [f"{node.address}: {problems[node]}" for node in self._location.nodes if node in problems]
        shown = "; ".join(reasons) if len(self._location.nodes) > 1 else next(iter(problems.values()))
        # A node that does not answer may soon do so.
        was_refused = refusing == set(self._location.nodes)
        raise BrokerConnectionError(f"{self._location}: {shown}", was_refused=was_refused)

    def _avoided_since(self, node: BrokerNode) -> float:
        failed_at = self._failed_at.get(node, float("-inf"))
        return failed_at if self._clock() - failed_at < AVOIDED_SECONDS else float("-inf")

    def _note_failure(self, node: BrokerNode) -> None:
        with self._lock:
            self._failed_at[node] = self._clock()

    def _note_success(self, node: BrokerNode, problems: dict[BrokerNode, str]) -> None:
        with self._lock:
            self._failed_at.pop(node, None)
            is_back = node in self._told
            told = [(failed, problems[failed]) for failed in problems if failed not in self._told]
            self._told = (self._told | problems.keys()) - {node}
        for failed, reason in told:
            logger.warning("%s: %s. %s is used.", failed, reason, node, extra={"action": "broker_node_down"})
        if is_back:
            logger.info("%s: works again.", node, extra={"action": "broker_node_up"})
