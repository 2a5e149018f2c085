"""What happens between the relays and a server: refused, reset, cut, stalled, slow."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

from tests.support.proxy import FaultProxy
from tests.support.waiting import eventually

from .fault import Act, Fault
from .world import World

Server = Literal["database", "broker"]

#: A silence that is shorter than the limits is no outage yet, and readiness need not tell of it.
SHORT_SILENCE = "Shorter than the limits: what was held back goes on."

#: Longer than a publish may take.
UNANSWERED = "What was published is unanswered: unknown, and sent again once for each burst that was in flight."


def _proxy(world: World, server: Server) -> FaultProxy:
    return world.database_proxy if server == "database" else world.broker_proxy


def refused(server: Server) -> Act:
    def act(world: World, _chance: random.Random) -> Iterator[None]:
        _proxy(world, server).refuse()
        try:
            yield
        finally:
            _proxy(world, server).forward()

    return act


def reset(server: Server) -> Act:
    def act(world: World, _chance: random.Random) -> Iterator[None]:
        _proxy(world, server).reset()
        yield

    return act


def cut(server: Server, to: Literal["server", "client"]) -> Act:
    def act(world: World, chance: random.Random) -> Iterator[None]:
        proxy = _proxy(world, server)
        before = proxy.connections
        proxy.cut_after(chance.randint(1, world.burst_bytes[server, to]), to=to)
        eventually(lambda: proxy.connections > before, 30, "the relays connect again")
        yield

    return act


def stalled(server: Server, *directions: Literal["to_server", "to_client"]) -> Act:
    def act(world: World, _chance: random.Random) -> Iterator[None]:
        _proxy(world, server).stall(*directions)
        try:
            yield
        finally:
            _proxy(world, server).forward()

    return act


def narrow(server: Server) -> Act:
    def act(world: World, _chance: random.Random) -> Iterator[None]:
        _proxy(world, server).limit(64_000)
        try:
            yield
        finally:
            _proxy(world, server).limit(None)

    return act


def late(server: Server) -> Act:
    def act(world: World, _chance: random.Random) -> Iterator[None]:
        _proxy(world, server).delay(0.2)
        try:
            yield
        finally:
            _proxy(world, server).delay(0)

    return act


def _faults(server: Server) -> Iterator[Fault]:
    name = f"network to the {server}"
    yield Fault(f"{name}: refused", refused(server), says=f"{server} down")
    yield Fault(f"{name}: reset", reset(server), lasts=(0.0, 0.1), weight=2)
    yield Fault(f"{name}: cut at a byte to the {server}", cut(server, "server"), lasts=(0.0, 0.0), weight=5)
    yield Fault(f"{name}: cut at a byte to the relay", cut(server, "client"), lasts=(0.0, 0.0), weight=5)
    about, lasts = (SHORT_SILENCE, (0.3, 1.0)) if server == "database" else (UNANSWERED, (2.2, 2.6))
    yield Fault(f"{name}: stalled to the {server}", stalled(server, "to_server"), SHORT_SILENCE)
    yield Fault(f"{name}: stalled to the relay", stalled(server, "to_client"), SHORT_SILENCE)
    yield Fault(f"{name}: stalled in both directions", stalled(server), about, lasts=lasts)
    yield Fault(f"{name}: 64 kB a second", narrow(server), says="ready")
    yield Fault(f"{name}: 200 ms late", late(server), says="ready")


FAULTS = [*_faults("database"), *_faults("broker")]
