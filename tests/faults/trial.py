"""One fault, from a world at rest to a world at rest, and everything that is checked about it."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from tests.support.waiting import eventually

from .fault import Fault
from .ledger import Figures
from .loglines import log_problems
from .relays import MOST_DATABASE_CONNECTIONS, WORKERS, Relay
from .world import SECRET, World

#: Readiness tells of a fault, and of its end, within so many seconds.
TELLING_SECONDS = 30.0

#: Readiness is asked so often.
ASK_EVERY_SECONDS = 0.1

#: What a fault made relays hold is free again after at most so many seconds.
FREEING_SECONDS = 15.0


#: Fewer signals would prove little.
FEWEST_SIGNALS = 100


@dataclass
class Report:
    """What became of one fault.

    :param recovered_seconds: from its end to the arrival of signals that were written then; None when they did not.
    """

    fault: Fault
    figures: Figures | None = None
    recovered_seconds: float | None = None
    problems: list[str] = field(default_factory=list)


def run(world: World, fault: Fault, chance: random.Random) -> Report:
    """Do a fault to the world, and check the promise.

    An error of the fault itself is a problem in the report, too; the world is started again then.
    """
    report = Report(fault)
    try:
        world.prepare()
        for relay in world.relays:
            relay.new_output()
        _do(world, report, chance)
    except Exception as error:
        # In the long form one fault must not end the others.
        report.problems.append(f"{type(error).__name__}: {error}")
    if report.problems:
        world.start_again()
    return report


def _do(world: World, report: Report, chance: random.Random) -> None:
    fault = report.fault
    relays = list(world.relays)
    world.begin_fault(chance)
    writer = world.writer
    assert writer is not None
    eventually(lambda: writer.written > 0, 20, "signals are written")
    with fault.lasting(world, chance):
        seconds = chance.uniform(*fault.lasts)
        if fault.says is None:
            threading.Event().wait(seconds)
        else:
            report.problems += _says(world, fault.says, seconds)
    healed = time.monotonic()
    markers = eventually(lambda: _written(world), 30, "a signal is written after the fault")
    world.wait_until_sent(markers, fault.recovery_seconds)
    report.recovered_seconds = time.monotonic() - healed
    calm_since = time.time()
    eventually(lambda: writer.written >= FEWEST_SIGNALS, 30, "enough signals are written")
    world.stop_writing()
    world.wait_until_sent()
    report.problems += _says(world, "ready")
    report.figures = world.end_fault(calm_since)
    report.problems += report.figures.problems(fault.duplicates_bound, fault.most_often_bound)
    for relay in relays:
        report.problems += [f"{relay.name}: {problem}" for problem in _check(relay, fault)]
    report.problems += _too_many_sessions(world)


def _written(world: World) -> list[int]:
    return world.write(2) + world.write_others()


def _says(world: World, words: str, for_seconds: float = 0.0) -> list[str]:
    """Wait until all relays say so, and go on saying so for a while."""
    deadline = time.monotonic() + TELLING_SECONDS
    since: float | None = None
    while True:
        said, now = {relay.name: relay.says() for relay in world.living()}, time.monotonic()
        if set(said.values()) != {words}:
            since = None
        elif since is None:
            since = now
        if since is not None and now - since >= for_seconds:
            return []
        if now >= deadline:
            return [f"/readyz must say {words!r} for {for_seconds:.1f} s, and says {said}"]
        threading.Event().wait(ASK_EVERY_SECONDS)


def _too_many_sessions(world: World) -> list[str]:
    most = MOST_DATABASE_CONNECTIONS * len(world.living())
    try:
        eventually(lambda: world.sessions() <= most, FREEING_SECONDS, "database sessions end")
    except AssertionError:
        return [f"{world.sessions()} database sessions of {len(world.living())} relays"]
    return []


def _check(relay: Relay, fault: Fault) -> list[str]:
    problems = log_problems(relay.new_output(), fault.errors, WORKERS * fault.interruptions, SECRET)
    if not relay.is_running or relay.level is None:
        return problems
    before = relay.level
    try:
        eventually(lambda: not relay.measure().problems(before), FREEING_SECONDS, "nothing is leaked")
    except AssertionError:
        problems += relay.measure().problems(before)
    return problems
