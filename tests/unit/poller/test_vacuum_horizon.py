"""Who holds the horizon back for long, and who only for a moment."""

from __future__ import annotations

from dataclasses import replace

from relay.poller.diagnosis.vacuum_horizon import HELD_FOR_SECONDS, Debounce
from signalbus_core.lowlevel import HolderKind, HorizonHolder

REPORT = HorizonHolder(HolderKind.SESSION, 7, "report", "active", 300.0, 1000, "41")
SLOT = HorizonHolder(HolderKind.SLOT, None, "standby", None, None, 900, "42")


def test_who_is_seen_once_may_be_on_its_way() -> None:
    assert Debounce().record_holders([REPORT], 0.0) is None


def test_who_is_seen_again_at_the_same_place_has_held_since_its_transaction_began() -> None:
    sightings = Debounce()
    sightings.record_holders([REPORT], 0.0)
    assert sightings.record_holders([REPORT], HELD_FOR_SECONDS - 0.1) is None
    held = sightings.record_holders([REPORT], HELD_FOR_SECONDS)
    assert held is not None
    assert (held.holder, held.seconds) == (REPORT, 300.0)


def test_who_has_moved_on_begins_anew() -> None:
    sightings = Debounce()
    for number in range(10):
        assert sightings.record_holders([replace(REPORT, horizon=str(number))], number * HELD_FOR_SECONDS) is None


def test_who_does_nothing_and_began_long_ago_is_told_at_once() -> None:
    idle = replace(REPORT, state="idle in transaction (aborted)")
    assert Debounce().record_holders([replace(idle, age_seconds=HELD_FOR_SECONDS)], 0.0) is not None
    assert Debounce().record_holders([replace(idle, age_seconds=HELD_FOR_SECONDS - 0.1)], 0.0) is None
    prepared = HorizonHolder(HolderKind.PREPARED, None, "order 7", None, HELD_FOR_SECONDS, 9, "41")
    assert Debounce().record_holders([prepared], 0.0) is not None


def test_whose_statement_runs_for_long_is_told_at_once() -> None:
    held = Debounce().record_holders([replace(REPORT, still_seconds=HELD_FOR_SECONDS)], 0.0)
    assert held is not None
    assert held.seconds == REPORT.age_seconds
    assert Debounce().record_holders([replace(REPORT, still_seconds=HELD_FOR_SECONDS - 0.1)], 0.0) is None


def test_a_holder_without_an_age_has_held_since_it_was_seen() -> None:
    sightings = Debounce()
    sightings.record_holders([SLOT], 100.0)
    held = sightings.record_holders([SLOT], 160.0)
    assert held is not None
    assert held.seconds == 60.0


def test_a_slot_is_the_same_whoever_uses_it() -> None:
    sightings = Debounce()
    sightings.record_holders([replace(SLOT, pid=1)], 0.0)
    assert sightings.record_holders([replace(SLOT, pid=2)], HELD_FOR_SECONDS) is not None


def test_the_one_that_holds_the_horizon_furthest_back_is_told() -> None:
    sightings = Debounce()
    sightings.record_holders([REPORT, SLOT], 0.0)
    passing = replace(REPORT, pid=8, transactions=2000, horizon="1")
    held = sightings.record_holders([passing, REPORT, SLOT], HELD_FOR_SECONDS)
    assert held is not None
    assert held.holder == REPORT


def test_who_was_away_begins_anew() -> None:
    sightings = Debounce()
    sightings.record_holders([SLOT], 0.0)
    sightings.record_holders([], 60.0)
    assert sightings.record_holders([SLOT], 120.0) is None
