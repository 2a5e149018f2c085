"""The world of a cluster: three nodes with a quorum queue, and a stream, which the relays know by their URLs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pika
from pika.exceptions import ConnectionClosedByBroker
from pika.spec import INTERNAL_ERROR

from tests.support.cluster import ClusterNode, PrivateCluster
from tests.support.postgres import PrivatePostgres
from tests.support.waiting import eventually

from .world import BROKER_SETTINGS, DATABASE_SETTINGS, LOGIN, SECRET, World, built_at

CLUSTER_SETTINGS = (*BROKER_SETTINGS, "cluster_partition_handling = pause_minority")

QUORUM = {"quorum": {"x-queue-type": "quorum"}}
STREAM = {"stream": {"x-queue-type": "stream"}}

#: While a majority is there, a signal arrives within so many seconds.
FLOWING_SECONDS = 60.0

#: A node that stopped serving while it was without a majority, serves again within so many seconds.
NODE_SECONDS = 60.0

#: The body of a message that only tells where a stream ends.
END = b"end"


#: When a stream's leader is gone, an older RabbitMQ sends to the new one what it has no answer for, by wrong numbers
#: (https://github.com/rabbitmq/rabbitmq-server/pull/12236). Then it confirms messages that are not in the stream.
STREAMS_SINCE = 4


class ClusterWorld(World):
    """Relays go to the nodes directly, so that they meet what becomes of these."""

    def _build(self) -> None:
        #: The offset that each stream is read from.
        self._read: dict[str, int] = {}
        #: How long signals took that were written when a node had just gone, and a majority was there.
        self.flowed_seconds: list[float] = []
        self.postgres = self.stack.enter_context(PrivatePostgres(settings=DATABASE_SETTINGS)).start()
        self.rabbitmq: Any = self.stack.enter_context(PrivateCluster(settings=CLUSTER_SETTINGS)).start()
        major = int(self.cluster.eval("rabbit_misc:version().").strip('"').partition(".")[0])
        self.has_streams = major >= STREAMS_SINCE
        self.queues = QUORUM | (STREAM if self.has_streams else {})
        urls = [f"amqp://{LOGIN}:{SECRET}@127.0.0.1:{node.port}/%2F?heartbeat=2" for node in self.cluster.nodes]
        self.environ = {
            "TEST_DATABASE_URL": f"postgresql+psycopg2://{LOGIN}@127.0.0.1:{self.postgres.port}/faults",
            "TEST_AMQP_URL": ",".join(urls),
        }
        self.database_ports = {self.postgres.port}
        self.broker_ports = {node.port for node in self.cluster.nodes}
        self._prepare_broker()
        self._prepare_database()
        self.prepare()

    @property
    def cluster(self) -> PrivateCluster:
        return self.rabbitmq

    def others(self, *nodes: ClusterNode) -> list[ClusterNode]:
        return [node for node in self.cluster.nodes if node not in nodes]

    def take(self, *queues: str) -> None:
        for queue in queues or self.queues:
            eventually(lambda queue=queue: self._taken(queue), NODE_SECONDS, f"{queue} can be read", 0.5)

    def _taken(self, queue: str) -> bool:
        """Take all messages of a queue; False when a node does not know yet where its leader is."""
        try:
            super().take(queue)
        except ConnectionClosedByBroker as error:
            if error.reply_code != INTERNAL_ERROR:
                raise
            return False
        return True

    def _bodies(self, channel: Any, queue: str) -> Iterator[int]:
        if queue != "stream":
            yield from super()._bodies(channel, queue)
            return
        channel.confirm_delivery()
        channel.basic_publish("", queue, END, pika.BasicProperties(delivery_mode=2), mandatory=True)
        channel.basic_qos(prefetch_count=500)
        offset = self._read.get(queue, 0)
        for method, properties, body in channel.consume(queue, arguments={"x-stream-offset": offset}):
            channel.basic_ack(method.delivery_tag)
            self._read[queue] = properties.headers["x-stream-offset"] + 1
            if body == END:
                break
            yield self.ledger.identified(int(body), properties.message_id, built_at(properties))
        channel.cancel()

    def _heal(self) -> None:
        for node in self.cluster.nodes:
            node.resume()
            if not node.is_running:
                node.start()
        for node in self.cluster.nodes:
            eventually(lambda node=node: node.listens() or _revived(node), NODE_SECONDS, "the node serves", 0.5)
        self.cluster.wait_until_whole()

    def flows(self) -> None:
        """Signals that are written now are sent soon: a majority is there. Notes how long that took."""
        began = time.monotonic()
        self.wait_until_sent(self.write(2), FLOWING_SECONDS)
        self.flowed_seconds.append(time.monotonic() - began)


def _revived(node: ClusterNode) -> bool:
    """End its maintenance. A node that stops or starts its applications just now cannot tell whether it has any."""
    with contextlib.suppress(RuntimeError):
        node.revive()
    return node.listens()
