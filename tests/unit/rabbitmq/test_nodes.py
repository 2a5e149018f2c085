"""The nodes of a broker, as one or several URLs name them, and the order in which they are tried."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalbus_core import SetupError
from signalbus_core.rabbitmq import BrokerConnectionError, BrokerLocation
from signalbus_core.rabbitmq.amqp.nodes import AVOIDED_SECONDS, NodeOrder
from signalbus_core.rabbitmq.amqp.url import BrokerNode

THREE = "amqp://u:geheim@a/v,amqp://u:geheim@b:5673/v,amqp://u:geheim@[::1]/v"


def test_several_urls_are_shown_as_a_list_without_passwords() -> None:
    location = BrokerLocation(THREE)
    assert str(location) == "amqp://u@a:5672/v, amqp://u@b:5673/v, amqp://u@[::1]:5672/v"
    assert "geheim" not in repr(location)
    assert location == BrokerLocation(THREE.replace(",", " ,\n "))
    assert location != BrokerLocation(THREE.replace("geheim@b", "other@b"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("amqp://a/,,amqp://b/", "URL 2 of 3 is empty"),
        ("amqp://a/, ", "URL 2 of 2 is empty"),
        (",amqp://a/", "URL 1 of 2 is empty"),
        ("amqp://a/,amqps://b/", "different schemes, 'amqp' and 'amqps'"),
        ("amqp://a/,http://b/", "URL 2 of 2 must look like"),
        ("amqp://a/v,amqp://b/", "different virtual hosts, 'v' and '/'"),
        ("amqp://a/,amqp://b:port/,amqp://c/", "URL 2 of 3 cannot be used"),
        ("amqp://a/,amqp://u:geh/eim@b/", "URL 2 of 2 .*/ as %2F"),
        ("amqp://a/,amqp://u:geh@eim@b/v@w", "URL 2 of 2 .*@ as %40"),
        ("amqp://u:geh,eim@a/", "a comma is written as %2C"),
        ("amqp://u:geheim@a,b,c/", "several are each written in full"),
        ("amqp://a/v,b/v", "several are each written in full"),
    ],
)
def test_a_malformed_url_among_several_is_named(url: str, reason: str) -> None:
    with pytest.raises(SetupError, match=reason) as raised:
        BrokerLocation(url)
    assert "geh" not in str(raised.value)


def test_escaped_characters_and_commas_of_options_are_no_separators() -> None:
    options = "?tcp_options={'TCP_KEEPIDLE':9,'TCP_KEEPCNT':2}"
    location = BrokerLocation(f"amqp://u:a%2Cb%40c@a/v%2Cw{options},amqp://u:p@b/v%2Cw")
    first, second = (node.parameters(1.0) for node in location.nodes)
    assert (first.credentials.password, first.virtual_host) == ("a,b@c", "v,w")
    assert (first.tcp_options["TCP_KEEPIDLE"], second.tcp_options["TCP_KEEPIDLE"]) == (9, 15)


class Cluster:
    """Nodes that take a connection, or fail for a reason."""

    def __init__(self, first: int = 0) -> None:
        self.now = 0.0
        self.location = BrokerLocation(THREE)
        self.order = NodeOrder(self.location, lambda: self.now, lambda _count: first)
        self.failing: dict[str, str] = {}
        self.tried: list[tuple[str, float]] = []
        self.lasts = 0.0

    def connect(self, timeout_seconds: float = 9.0) -> str:
        return self.order.connect(self._connect, timeout_seconds)

    def _connect(self, node: BrokerNode, timeout_seconds: float) -> str:
        name = node.address[0]
        self.tried.append((name, timeout_seconds))
        if (reason := self.failing.get(name)) is not None:
            self.now += timeout_seconds if self.lasts else 0.0
            raise BrokerConnectionError(f"{node}: {reason}")
        return name


@given(first=st.integers(0, 2), connections=st.integers(1, 9))
def test_connections_are_spread_over_nodes(first: int, connections: int) -> None:
    cluster = Cluster(first)
    used = [cluster.connect() for _ in range(connections)]
    counts = [used.count(name) for name in "ab["]
    assert used[0] == "ab["[first]
    assert max(counts) - min(counts) <= 1


@given(failing=st.sets(st.sampled_from("ab["), max_size=2), first=st.integers(0, 2), lasts=st.booleans())
def test_a_node_that_works_is_found_within_the_time_limit(failing: set[str], first: int, lasts: bool) -> None:
    cluster = Cluster(first)
    cluster.failing, cluster.lasts = dict.fromkeys(failing, "no answer"), float(lasts)
    assert cluster.connect() not in failing
    assert cluster.now < 9.0
    assert len({name for name, _ in cluster.tried}) == len(cluster.tried)
    assert sum(seconds for _, seconds in cluster.tried if lasts) <= 9.0 + 1e-6


def test_each_node_has_a_reason_when_none_works() -> None:
    cluster = Cluster()
    cluster.failing = {"a": "refused", "b": "refused", "[": "the login was refused"}
    with pytest.raises(BrokerConnectionError) as raised:
        cluster.connect()
    reasons = "a:5672: refused; b:5673: refused; [::1]:5672: the login was refused"
    assert str(raised.value) == f"{cluster.location}: {reasons}"


def test_a_node_that_failed_is_tried_last_for_a_while() -> None:
    cluster = Cluster()
    cluster.failing = {"a": "no answer"}
    assert [cluster.connect() for _ in range(5)].count("a") == 0
    assert [name for name, _ in cluster.tried].count("a") == 1
    cluster.failing = {}
    cluster.now = AVOIDED_SECONDS
    assert [cluster.connect() for _ in range(3)].count("a") == 1


def test_a_node_that_fails_is_told_once_until_it_works(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cluster = Cluster()

    def connect(times: int = 6) -> list[str]:
        caplog.clear()
        for _ in range(times):
            cluster.connect()
            cluster.now += AVOIDED_SECONDS
        return [getattr(record, "action", "") for record in caplog.records]

    def fail(reason: str) -> Callable[[], list[str]]:
        cluster.failing = {"b": reason} if reason else {}
        return connect

    assert fail("the login was refused")() == ["broker_node_down"]
    assert fail("the login was refused")() == []
    assert fail("")() == ["broker_node_up"]
    assert fail("refused")() == ["broker_node_down"]


@given(refusing=st.sets(st.sampled_from("ab[")), first=st.integers(0, 2))
def test_the_login_is_refused_when_every_node_refuses_it(refusing: set[str], first: int) -> None:
    cluster = Cluster(first)

    def connect(node: BrokerNode, _timeout_seconds: float) -> str:
        raise BrokerConnectionError(f"{node}: failed", was_refused=node.address[0] in refusing)

    with pytest.raises(BrokerConnectionError) as raised:
        cluster.order.connect(connect, 9.0)
    assert raised.value.was_refused == (len(refusing) == 3)
