"""More relays, more workers, more models, and a model whose destination is slow beside one whose is not."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ..section import Round
from ..settings import Scale
from ..world import Setup, World, metric
from ..writer import write

#: Signals of the slow model: more than it can send while the fast one is measured.
SLOW_SIGNALS = 30_000

MANY = 20


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    steps = (1, 2) if scale.is_quick else (1, 2, 4)
    for processes in steps:
        found[f"processes: {processes}"] = _drain(world, scale, Setup(processes=processes))
    for workers in steps:
        found[f"workers: {workers}"] = _drain(world, scale, Setup(workers=workers))
    found["models: 1"] = _drain(world, scale, Setup())
    found[f"models: {MANY}"] = {
        **_drain(world, scale, Setup(models=MANY)),
        "shortest_share": _shortest_share(world, scale),
    }
    found["destinations: fast alone"] = _beside_slow(world, scale, slow=0)
    found["destinations: fast beside slow"] = _beside_slow(world, scale, slow=SLOW_SIGNALS)
    for processes in steps:
        found[f"asleep: {processes}"] = {"wakeups": _wakeups(world, processes)}
    return found


def _drain(world: World, scale: Scale, setup: Setup) -> Mapping[str, float]:
    count = scale.signals // setup.models * setup.models
    with world.relays(setup) as relays:
        return world.drain(relays, count, models=setup.models).figures(count)


def _beside_slow(world: World, scale: Scale, slow: int) -> Mapping[str, float]:
    """The rate of the second model; signals of the first one are slow."""
    with world.relays(Setup(models=2, workers=4, sender="slow")) as relays:
        world.clean(models=2)
        if slow:
            world.fill(slow)
        world.execute(
            "INSERT INTO signal_1 (id, body) SELECT n, repeat('x', 200) FROM generate_series(1, %s) n", scale.signals
        )
        before, tick = world.spent(relays), threading.Event()
        while world.execute("SELECT max(id) FROM signal_1") != [(None,)]:
            tick.wait(0.01)
        spent = world.spent(relays) - before
        [(left,)] = world.execute("SELECT count(*) FROM signal_0")
    world.clean(models=2)
    found = {"rate": scale.signals / spent.seconds}
    return {**found, "slow_rate": (slow - left) / spent.seconds} if slow else found


def _shortest_share(world: World, scale: Scale) -> float:
    """Of many models, when half of all is sent: what the last has sent, as a part of what they have on average."""
    each = scale.signals // MANY
    counts = ", ".join(f"(SELECT count(*) FROM signal_{number})" for number in range(MANY))
    with world.relays(Setup(models=MANY, burst_count=max(1, each // 10))):
        world.fill(each * MANY, models=MANY)
        tick = threading.Event()
        while True:
            [left] = world.execute(f"SELECT {counts}")
            if sum(left) <= each * MANY / 2:
                break
            tick.wait(0.05)
        world.wait_until_empty(MANY)
    sent = [each - one for one in left]
    return min(sent) / (sum(sent) / MANY)


def _wakeups(world: World, processes: int) -> float:
    """How many relays wake for one signal."""
    with world.relays(Setup(processes=processes, arguments=("--poll-interval", "5"))) as relays:
        before = sum(metric(relay, "signalbus_wakeups_total") for relay in relays)
        written = write(world.database_url, 10, 3)
        world.wait_until_empty()
        return (sum(metric(relay, "signalbus_wakeups_total") for relay in relays) - before) / len(written)
