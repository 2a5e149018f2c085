"""A private RabbitMQ cluster: nodes on the loopback address, with one Erlang port mapper and one cookie."""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from .guardian import guardian, stop_epmd
from .network_rules import DroppedPackets, RulesMissingError
from .private_process import PrivateProcess
from .programs import free_port
from .rabbitmq import PrivateRabbitMQ
from .waiting import eventually

if TYPE_CHECKING:
    from typing_extensions import Self

#: A node that is silent for so long, and a quarter more, is out of the cluster. RabbitMQ's own default is 60.
SILENCE_SECONDS = 4

#: A leader is elected, and a node that came back is a member again, within so many seconds.
SETTLING_SECONDS = 60.0


#: Where a queue's leader is. Of a quorum queue the record may be old.
LEADER = """
    {ok, Queue} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
    case amqqueue:get_pid(Queue) of
        {Name, _} ->
            case ra:members([{Name, One} || One <- [node() | nodes()]], 2000) of
                {ok, _, {_, Leader}} -> Leader;
                _ -> none
            end;
        Pid ->
            case lists:member(node(Pid), [node() | nodes()]) of
                true -> node(Pid);
                false -> none
            end
    end.
"""


class ClusterNode(PrivateRabbitMQ):
    """One node. Its cluster has the port mapper, and stops it."""

    def __init__(self, number: int, cluster: PrivateCluster, settings: Sequence[str]) -> None:
        super().__init__(settings=settings)
        epmd_port = cluster.epmd_port
        self._stands_still = False
        self.epmd_port = epmd_port
        self.node = node_name(number, epmd_port)
        #: It connects to the others from this address, by which network rules can tell whose connections are whose.
        self.source = f"127.7.{epmd_port // 250}.{number + 1}"
        source = self.source.replace(".", ",")
        self.erlang = (
            "-kernel",
            "net_ticktime",
            str(SILENCE_SECONDS),
            "-kernel",
            "inet_dist_connect_options",
            f"[{{ip,{{{source}}}}}]",
        )

    def join(self, cookie: str) -> None:
        """Have the cookie by which nodes know each other."""
        path = self.directory / ".erlang.cookie"
        path.write_text(cookie)
        path.chmod(0o400)
        self._give_directory()

    def listens(self) -> bool:
        """Whether it serves clients. A dead, stopped, drained or isolated one does not."""
        if self._stands_still:
            # The kernel accepts connections for it.
            return False
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self) -> Self:
        self._stands_still = False
        return super().start()

    def pause(self) -> None:
        self._stands_still = True
        super().pause()

    def resume(self) -> None:
        super().resume()
        self._stands_still = False

    def drain(self) -> None:
        """As ``rabbitmq-upgrade drain`` does: closes clients and listeners, and hands leaders over."""
        self.eval("rabbit_maintenance:drain().")

    def revive(self) -> None:
        self.eval("rabbit_maintenance:revive().")

    def close(self) -> None:
        PrivateProcess.close(self)


class PrivateCluster:
    """Nodes that form a cluster when they start, in about 12 seconds.

    :param settings: further lines of their configuration files.
    """

    def __init__(self, size: int = 3, settings: Sequence[str] = ()) -> None:
        self._stack = contextlib.ExitStack()
        self.epmd_port = free_port()
        guardian.watch("epmd", self.epmd_port)
        self._stack.callback(self._stop_epmd)
        peers = ["cluster_formation.peer_discovery_backend = classic_config"]
        peers += [
            f"cluster_formation.classic_config.nodes.{number + 1} = {node_name(number, self.epmd_port)}"
            for number in range(size)
        ]
        cookie = secrets.token_hex(10).upper()
        self.nodes: list[ClusterNode] = []
        try:
            for number in range(size):
                node = self._stack.enter_context(ClusterNode(number, self, (*peers, *settings)))
                node.join(cookie)
                self.nodes.append(node)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, nodes: Sequence[ClusterNode] = ()) -> Self:
        """Start nodes, or all, and wait until each knows all others."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.start(), nodes or self.nodes))
        self.wait_until_members(self.nodes)
        return self

    def close(self) -> None:
        self._stack.close()

    # What is where

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def url(self) -> str:
        """Of a node that answers."""
        return self.answering().url

    def answering(self) -> ClusterNode:
        return eventually(lambda: next((node for node in self.nodes if node.listens()), None), SETTLING_SECONDS)

    def eval(self, expression: str) -> str:
        return self.answering().eval(expression)

    def leader(self, queue: str) -> ClusterNode:
        """The node on which a queue's leader is: of a quorum queue as the members say it, else as the record does."""
        found = eventually(lambda: self._leader(queue), SETTLING_SECONDS, f"{queue} has a leader", every_seconds=0.1)
        assert found is not None
        return found

    def _leader(self, queue: str) -> ClusterNode | None:
        name = self.eval(LEADER % queue)
        return next((node for node in self.nodes if node.node == name.strip("'")), None)

    def replicas(self, queue: str) -> set[str]:
        """The nodes that have a replica of a quorum queue."""
        return names_in(self.eval(f"element(2, ra:members({{'%2F_{queue}', {self.leader(queue).node}}}))."))

    # What administrators do

    def transfer(self, queue: str, to: ClusterNode) -> None:
        """Make a node the leader of a quorum queue."""
        before = self.leader(queue)
        member = f"'%2F_{queue}'"
        before.eval(f"ra:transfer_leadership({{{member}, {before.node}}}, {{{member}, {to.node}}}).")
        eventually(lambda: self.leader(queue) is to, SETTLING_SECONDS, f"{to.node} leads {queue}", every_seconds=0.1)

    def shrink(self, queue: str, node: ClusterNode) -> None:
        """Remove a quorum queue's replica from a node, as ``rabbitmq-queues delete_member`` does."""
        self.eval(f'ok = rabbit_quorum_queue:delete_member(<<"/">>, <<"{queue}">>, {node.node}).')

    def grow(self, queue: str, node: ClusterNode) -> None:
        """Give a quorum queue a replica on a node, as ``rabbitmq-queues add_member`` does."""
        since_3_13 = self.eval("erlang:function_exported(rabbit_quorum_queue, add_member, 5).") == "true"
        more = "voter, 20000" if since_3_13 else "20000"
        self.eval(f'ok = rabbit_quorum_queue:add_member(<<"/">>, <<"{queue}">>, {node.node}, {more}).')

    @contextlib.contextmanager
    def cut_off(self, node: ClusterNode) -> Iterator[str]:
        """A node does not reach the others, and they do not reach it; clients reach all. Says how that is done."""
        others = [other for other in self.nodes if other is not node]
        with contextlib.ExitStack() as stack:
            try:
                dropped = DroppedPackets([node.source], [node.distribution_port])
                stack.callback(dropped.close)
                how = "network rules drop its packets"
            except RulesMissingError as error:
                node.eval("[{erlang:set_cookie(N, cut_off), erlang:disconnect_node(N)} || N <- nodes()].")
                stack.callback(node.eval, f"[erlang:set_cookie(N, erlang:get_cookie()) || N <- {_list(others)}].")
                how = f"the nodes refuse each other ({error})"
            yield how

    def members(self, seen_by: ClusterNode) -> set[str]:
        """The nodes that one of them is connected with, itself included."""
        return names_in(seen_by.eval("[node() | nodes()]."))

    def wait_until_whole(self) -> None:
        """All nodes serve clients, and see each other."""
        for node in self.nodes:
            eventually(node.listens, SETTLING_SECONDS, f"{node.node} serves clients")
        self.wait_until_members(self.nodes)

    def wait_until_members(self, nodes: Sequence[ClusterNode]) -> None:
        """Each of these sees these, and no other."""
        names = {node.node for node in nodes}
        for node in nodes:
            eventually(lambda node=node: self.members(node) == names, SETTLING_SECONDS, f"{node.node} sees {names}")

    def _stop_epmd(self) -> None:
        stop_epmd(self.epmd_port)
        guardian.release("epmd", self.epmd_port)


def _list(nodes: Sequence[ClusterNode]) -> str:
    return f"[{', '.join(node.node for node in nodes)}]"


def names_in(text: str) -> set[str]:
    return set(re.findall(r"sb\d+x\d+@localhost", text))


def node_name(number: int, epmd_port: int) -> str:
    return f"sb{number}x{epmd_port}@localhost"
