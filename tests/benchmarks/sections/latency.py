"""From commit to arrival at a consumer, and what a relay costs meanwhile. The writer keeps its pace regardless."""

from __future__ import annotations

from collections.abc import Mapping

from ..consumer import Consumer
from ..section import Round
from ..settings import BURST_COUNT, Scale
from ..world import Setup, World
from ..writer import write

#: Signals a second, with the burst count. At bursts of one each burst is full, and what follows it finds nothing.
PACES = {
    "1 a second": (1, BURST_COUNT),
    "10 a second": (10, BURST_COUNT),
    "100 a second": (100, BURST_COUNT),
    "100 a second, bursts of one": (100, 1),
    "1,000 a second": (1000, BURST_COUNT),
}

#: The relay as it is without options.
DEFAULTS = ("--poll-interval", "1")


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    for name, (rate, burst_count) in PACES.items():
        with world.relays(Setup(burst_count=burst_count, arguments=DEFAULTS)) as relays:
            consumer = Consumer(world.rabbitmq.url, "classic", arrivals=True)
            before = world.spent(relays)
            committed = write(world.database_url, rate, scale.seconds * (3 if rate == 1 else 1))
            world.wait_until_empty()
            spent = world.spent(relays) - before
            found[name] = {
                **latencies(committed, dict(consumer.finish())),
                "committed": len(committed) / spent.seconds,
                "cpu_percent": spent.relay / spent.seconds * 100,
                **{name: spent.figures(len(committed))[name] for name in ("relay_us", "postgres_us")},
            }
    return found


def latencies(committed: Mapping[str, float], arrived: Mapping[str, float]) -> dict[str, float]:
    """How long signals took, in milliseconds. One that did not arrive is an error of the benchmark."""
    seconds = sorted(max(0.0, arrived[body] - at) for body, at in committed.items())
    return {
        **{f"p{percent}_ms": seconds[len(seconds) * percent // 100] * 1e3 for percent in (50, 90, 99)},
        "max_ms": seconds[-1] * 1e3,
    }
