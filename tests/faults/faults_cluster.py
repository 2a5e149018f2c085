"""What happens to the nodes of a cluster, and what their administrators do. Each fault proves that it happened."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tests.support.cluster import ClusterNode
from tests.support.waiting import eventually

from .cluster_world import ClusterWorld
from .fault import Act, Fault
from .faults_relay import AT_ONCE

#: A start of a node takes seconds.
RARELY = 0.3

#: The cluster notices, elects and pauses within so many seconds.
NOTICING_SECONDS = 60.0

#: So many signals are written while nothing flows.
WAITING_SIGNALS = 4


def leader_killed(queue: str) -> Act:
    def act(world: ClusterWorld, _chance: random.Random) -> Iterator[None]:
        node = world.cluster.leader(queue)
        with world.hanging("awaiting"):
            node.kill9()
        yield from _without(world, [node], queue)
        node.start()
        world.cluster.wait_until_whole()

    return act


def killed(world: ClusterWorld, chance: random.Random) -> Iterator[None]:
    node = chance.choice(world.cluster.nodes)
    node.kill9()
    yield from _without(world, [node])
    node.start()
    world.cluster.wait_until_whole()


def restarted(world: ClusterWorld, chance: random.Random) -> Iterator[None]:
    node = chance.choice(world.cluster.nodes)
    node.stop()
    yield from _without(world, [node])
    node.start()
    world.cluster.wait_until_whole()


def stopped(world: ClusterWorld, _chance: random.Random) -> Iterator[None]:
    node = world.cluster.leader("quorum")
    node.pause()
    try:
        yield from _without(world, [node], "quorum")
    finally:
        node.resume()
    world.cluster.wait_until_whole()


def _without(world: ClusterWorld, nodes: Sequence[ClusterNode], queue: str | None = None) -> Iterator[None]:
    """A majority goes on without these: it knows that they are gone, has leaders, and signals flow."""
    rest = world.others(*nodes)
    world.flows()
    world.cluster.wait_until_members(rest)
    if queue is not None:
        eventually(lambda: world.cluster.leader(queue) in rest, NOTICING_SECONDS, f"{queue} has another leader")
    yield


def majority_stopped(world: ClusterWorld, chance: random.Random) -> Iterator[None]:
    gone = chance.sample(world.cluster.nodes, 2)
    for node in gone:
        node.pause()
    try:
        yield from _nothing_flows(world)
    finally:
        for node in gone:
            node.resume()
    world.cluster.wait_until_whole()


def majority_killed(world: ClusterWorld, chance: random.Random) -> Iterator[None]:
    gone = chance.sample(world.cluster.nodes, 2)
    for node in gone:
        node.kill9()
    yield from _nothing_flows(world)
    world.cluster.start(gone)
    world.cluster.wait_until_whole()


def _nothing_flows(world: ClusterWorld) -> Iterator[None]:
    """The node that is left serves nobody, and what is written meanwhile waits, without a failed try.

    Of what was sent while the majority went, the broker may have told that it cannot take it: one try, and no more.
    """
    eventually(lambda: not any(node.listens() for node in world.cluster.nodes), NOTICING_SECONDS, "no node serves")
    # It closes its listeners first, and connections later.
    eventually(
        lambda: {relay.says() for relay in world.living()} == {"broker down"}, NOTICING_SECONDS, "no relay is connected"
    )
    numbers = world.write(WAITING_SIGNALS)
    yield
    left = world.left(numbers)
    tried = world.sql(
        "SELECT key, attempts, error_class, error_text FROM signalbus_parked WHERE attempts > 1"
        " OR error_class <> 'nacked' OR key IN (SELECT id::text FROM signal WHERE number = ANY(%s)) LIMIT 3",
        numbers,
    )
    assert left == WAITING_SIGNALS, f"{left} of {WAITING_SIGNALS} signals are left"
    assert not tried, f"tries were used up while nothing could be sent: {tried}"


def cut_off(world: ClusterWorld, _chance: random.Random) -> Iterator[None]:
    node = world.cluster.leader("quorum")
    with world.cluster.cut_off(node):
        eventually(lambda: not node.listens(), NOTICING_SECONDS, "the minority pauses")
        yield from _without(world, [node], "quorum")
    world.cluster.wait_until_whole()


def transferred(world: ClusterWorld, chance: random.Random) -> Iterator[None]:
    before = world.cluster.leader("quorum")
    with world.hanging("awaiting"):
        world.cluster.transfer("quorum", chance.choice(world.others(before)))
    yield
    assert world.cluster.leader("quorum") is not before


def drained(world: ClusterWorld, _chance: random.Random) -> Iterator[None]:
    node = world.cluster.leader("quorum")
    node.drain()
    assert not node.listens()
    eventually(lambda: world.cluster.leader("quorum") is not node, NOTICING_SECONDS, "quorum has another leader")
    world.flows()
    yield
    node.revive()
    world.cluster.wait_until_whole()


def replica_moved(world: ClusterWorld, _chance: random.Random) -> Iterator[None]:
    node = world.cluster.leader("quorum")
    world.cluster.shrink("quorum", node)
    eventually(lambda: node.node not in world.cluster.replicas("quorum"), NOTICING_SECONDS, "the replica is gone")
    world.flows()
    yield
    world.cluster.grow("quorum", node)
    eventually(lambda: node.node in world.cluster.replicas("quorum"), NOTICING_SECONDS, "the replica is back")


def rolled(world: ClusterWorld, _chance: random.Random) -> Iterator[None]:
    for node in world.cluster.nodes:
        node.drain()
        node.stop()
        world.cluster.wait_until_members(world.others(node))
        world.flows()
        node.start()
        world.cluster.wait_until_whole()
    yield


SHORT = [
    Fault("cluster: SIGKILL of the leader's node in a burst", leader_killed("quorum"), lasts=AT_ONCE, weight=RARELY),
    Fault(
        "cluster: SIGSTOP of two of three nodes",
        majority_stopped,
        "Without a majority nothing is confirmed. The node that is left pauses, and readiness says so.",
        says="broker down",
        interruptions=2,
    ),
    Fault("cluster: leader transferred in a burst", transferred, lasts=AT_ONCE, weight=3),
    Fault(
        "cluster: minority cut off, pause_minority",
        cut_off,
        "The leader's node is alone.",
        lasts=AT_ONCE,
        interruptions=2,
    ),
    Fault("cluster: leader's node drained and revived", drained, lasts=AT_ONCE, weight=2),
    Fault("cluster: leader's replica removed and added", replica_moved, lasts=AT_ONCE, weight=2),
]

FAULTS = [
    *SHORT,
    Fault("cluster: SIGKILL of a node", killed, weight=RARELY),
    Fault(
        "cluster: SIGKILL of two of three nodes", majority_killed, says="broker down", interruptions=2, weight=RARELY
    ),
    Fault("cluster: restart of a node", restarted, weight=RARELY),
    Fault("cluster: SIGSTOP of the leader's node", stopped, lasts=AT_ONCE, interruptions=2),
    Fault(
        "cluster: rolling restart of all nodes",
        rolled,
        "Each is drained, stopped and started, as an upgrade does.",
        lasts=AT_ONCE,
        interruptions=3,
        weight=0.1,
    ),
]

STREAM_FAULTS = [
    Fault("cluster: SIGKILL of the stream's leader in a burst", leader_killed("stream"), lasts=AT_ONCE, weight=RARELY),
]
