"""Signals that cannot be sent hold up no other, and are kept; a broker that is away costs no signal an attempt."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from tests.support import prefork
from tests.support.processes import COMMAND
from tests.support.waiting import eventually

from .application import BURST_COUNT
from .fault import RELAYS
from .relays import WORKERS
from .world import World

IN_FLIGHT = BURST_COUNT * WORKERS * RELAYS

#: The broker closes the channel on a message that is too big; that may come between a burst and its answers while the
#: relays halve their bursts down to the signal that is to blame.
BURSTS_IN_VAIN = 4

#: The longest that a worker backs off, with time to send what has piled up.
FLOWING_SECONDS = 60.0


def set_aside(world: World) -> dict[str, dict[str, Any]]:
    """What the command shows, by key."""
    command = [COMMAND, "parked", "list", "--json", "--app", "application:create_app"]
    done = prefork.run(command, os.environ | world.environ, world.directory)
    done.check_returncode()
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    return {str(one["key"]): one for one in shown}


def key_of(world: World, number: int) -> str:
    return str(world.sql("SELECT id FROM signal WHERE number = %s", number)[0][0])


def test_three_bad_signals_among_ten_thousand_are_set_aside_with_their_reasons_and_hold_up_no_other(
    world: World,
) -> None:
    world.prepare()
    world.write(3000)
    [unroutable] = world.write(1, ["nowhere"])
    world.write(3000)
    [poison] = world.write(1, kind="poison")
    world.write(3000)
    [oversized] = world.write(1, kind="oversized")
    world.write(1000)
    bad = {unroutable, poison, oversized}
    eventually(lambda: world.left() == len(bad), 120, "all good signals are sent", every_seconds=0.1)

    shown = eventually(lambda: found if len(found := set_aside(world)) == len(bad) else None, 30, "all are set aside")
    reasons = {number: str(shown[key_of(world, number)]) for number in bad}
    assert "NO_ROUTE" in reasons[unroutable]
    assert "this signal cannot be sent" in reasons[poison]
    assert "message size" in reasons[oversized]
    assert {row[0] for row in world.sql("SELECT number FROM signal")} == bad

    world.ledger.withdrawn = bad
    world.sql("TRUNCATE signal, signalbus_parked")
    figures = world.end_fault()
    assert (figures.committed, figures.lost, figures.phantom) == (10_003, 0, 0)
    assert figures.duplicates <= IN_FLIGHT * BURSTS_IN_VAIN
    world.wait_ready()


def test_an_outage_of_the_broker_costs_no_signal_an_attempt_and_all_flows_when_it_is_back(world: World) -> None:
    world.prepare()
    world.broker_proxy.refuse()
    try:
        world.write(500)
        eventually(lambda: all(relay.says() == "broker down" for relay in world.relays), 30, "the outage is noticed")
        assert not threading.Event().wait(3)
        assert world.left() == 500
    finally:
        world.broker_proxy.forward()
    world.wait_until_sent(timeout_seconds=FLOWING_SECONDS)
    assert world.sql("SELECT count(*) FROM signalbus_parked") == [(0,)]
    figures = world.end_fault()
    assert (figures.committed, figures.lost, figures.phantom) == (500, 0, 0)
    assert figures.duplicates <= IN_FLIGHT
    world.wait_ready()
