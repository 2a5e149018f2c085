"""The low-water mark: what scans begin at, what they cost, and that nothing below it is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.scheduler import Scheduler
from relay.worker.broker_connections import BrokerConnections
from relay.worker.bursts import Bursts
from relay.worker.low_water import (
    BELOW_THE_MARK_SECONDS,
    COSTS_AT_MOST_ONE_IN,
    LATEST_SECONDS,
    RUNG_COSTS_AT_MOST_ONE_IN,
    LowWater,
    Scan,
)
from relay.worker.model_state import ModelState
from relay.worker.plan import BurstDecision
from relay.worker.worker import Worker
from signalbus_core.lowlevel import FIRST_KEY
from tests.support.clock import Clock
from tests.support.fuzzing import FACTOR
from tests.support.recorder import Recorder

#: What a scan from the start takes here.
LONG = 1.0


def begun_with(mark: int, now: float = 0.0) -> LowWater:
    """A model whose first scan, from the start, found this key."""
    low_water = LowWater(is_kept=True)
    low_water.record_scan(low_water.begin(now), mark, LONG)
    return low_water


def test_first_scan_begins_at_start_next_at_lowest_key_seen() -> None:
    low_water = LowWater(is_kept=True)
    first = low_water.begin(0.0)
    assert (first.start, first.sees_everything) == (FIRST_KEY, True)
    low_water.record_scan(first, 1000, LONG)
    second = low_water.begin(LONG)
    assert (second.start, second.sees_everything) == (1000, False)


def test_mark_rises_with_what_is_found_and_else_stays() -> None:
    low_water = begun_with(1000)
    low_water.record_scan(low_water.begin(1.0), 1500, 0.01)
    assert low_water.begin(2.0).start == 1500
    low_water.record_scan(low_water.begin(3.0), None, 0.01)
    assert low_water.begin(4.0).start == 1500


def test_scan_from_start_is_due_within_ten_times_the_last() -> None:
    low_water = begun_with(1000)
    assert not low_water.begin(COSTS_AT_MOST_ONE_IN * LONG - 0.01).sees_everything
    assert low_water.begin(COSTS_AT_MOST_ONE_IN * LONG).sees_everything


def test_a_thorough_scan_begins_at_start_and_puts_next_one_off() -> None:
    low_water = begun_with(1000)
    scan = low_water.begin(9.0, thorough=True)
    assert scan.sees_everything
    low_water.record_scan(scan, 1000, LONG)
    assert not low_water.begin(18.9).sees_everything
    assert low_water.begin(19.0).sees_everything


@pytest.mark.parametrize("late", [7, 0, -5, FIRST_KEY + 1])
def test_a_key_below_the_mark_lowers_it(late: int) -> None:
    low_water = begun_with(1000)
    low_water.record_scan(low_water.begin(10.0), late, LONG)
    assert low_water.begin(10.5).start == late


def test_scan_begun_before_mark_was_lowered_does_not_raise_it() -> None:
    low_water = begun_with(1000)
    burst = low_water.begin(9.9)
    low_water.record_scan(low_water.begin(10.0), 7, LONG)
    low_water.record_scan(burst, 1000, 0.01)
    assert low_water.begin(10.5).start == 7


def test_what_a_scan_takes_that_begins_where_the_mark_was_lowered_to_counts_as_well() -> None:
    # Else a single old signal that another session keeps locked would have every scan pass over what is dead above it.
    low_water = begun_with(1000)
    low_water.record_scan(low_water.begin(10.0), 7, 0.001)
    burst = low_water.begin(10.001)
    assert (burst.start, burst.is_deep) == (7, True)
    low_water.record_scan(burst, 2000, LONG)
    assert low_water.begin(20.0).start == 2000
    assert low_water.begin(20.001).sees_everything


def test_while_one_scans_from_start_others_go_by_mark() -> None:
    low_water = begun_with(1000)
    assert low_water.begin(10.0).sees_everything
    assert low_water.begin(10.1).start == 1000
    # Unless it never ends.
    assert low_water.begin(20.0).sees_everything


def test_after_a_burst_that_failed_a_scan_begins_at_the_start() -> None:
    low_water = begun_with(1000)
    low_water.give_up(low_water.begin(1.0))
    assert low_water.begin(1.1).sees_everything


def test_scan_under_way_when_burst_failed_delays_no_next_one() -> None:
    low_water = begun_with(1000)
    burst = low_water.begin(9.0)
    scan = low_water.begin(10.0)
    low_water.give_up(burst)
    low_water.record_scan(scan, 1000, LONG)
    assert low_water.begin(11.0).sees_everything


def test_failed_scans_from_start_do_not_follow_at_once() -> None:
    low_water = begun_with(1000)
    for now in (10.0, 20.0, 30.0):
        scan = low_water.begin(now)
        assert scan.sees_everything
        low_water.give_up(scan)
        assert not low_water.begin(now + 9.9).sees_everything


def test_turn_from_the_mark_on_has_another_one_once_a_full_scan_is_due() -> None:
    low_water = LowWater(is_kept=True)
    low_water.record_scan(low_water.begin(0.0), 5, LONG)
    assert low_water.schedule_full_scan(0.0, 1.0, found=True) is None, "it scanned every key"
    began_at, due = 1.0, COSTS_AT_MOST_ONE_IN * LONG
    low_water.record_scan(low_water.begin(began_at), 7, 0.001)
    assert low_water.schedule_full_scan(began_at, due - 0.2, found=True) == pytest.approx(0.2)
    assert low_water.schedule_full_scan(began_at, due, found=True) == BELOW_THE_MARK_SECONDS
    low_water.record_scan(low_water.begin(due), None, LONG)
    assert low_water.schedule_full_scan(began_at, due + LONG, found=True) is None, "another thread has"
    assert LowWater(is_kept=False).schedule_full_scan(began_at, due, found=False) is None


def test_bell_whose_burst_found_nothing_brings_full_scan_soon() -> None:
    low_water = begun_with(5)
    low_water.record_scan(low_water.begin(1.0), None, 0.001)
    assert low_water.schedule_full_scan(1.0, 3.0, found=False) == LATEST_SECONDS
    assert not low_water.begin(3.0 + LATEST_SECONDS / 2).sees_everything
    assert low_water.begin(3.0 + LATEST_SECONDS).sees_everything


def test_bell_brings_no_full_scan_sooner_than_three_times_the_last() -> None:
    low_water = begun_with(5)
    low_water.record_scan(low_water.begin(1.0), None, 0.001)
    assert low_water.schedule_full_scan(1.0, 1.1, found=False) == pytest.approx(RUNG_COSTS_AT_MOST_ONE_IN * LONG - 1.1)
    assert not low_water.begin(2.9).sees_everything
    assert low_water.begin(3.0).sees_everything
    # Nor while it runs.
    low_water.schedule_full_scan(3.1, 3.2, found=False)
    assert not low_water.begin(5.9).sees_everything


class TurnsFromTheMark(Worker):
    """A worker whose bursts scan a table with many dead rows, and send nothing."""

    def __init__(self, clock: Clock, scheduler: Scheduler, low_water: LowWater) -> None:
        states = cast(Mapping[str, ModelState], {"a": SimpleNamespace(low_water=low_water)})
        broker = cast(BrokerConnections, SimpleNamespace(maintain=lambda: True, pump_every_seconds=0.0))
        runtime = Recorder(clock=clock).runtime
        super().__init__("worker", states, cast(Bursts, None), scheduler, broker, runtime)
        self._low_water = low_water
        self.full_scans_took = 0.0

    def _send_burst(self, state: ModelState) -> tuple[BurstDecision, bool]:
        scan = self._low_water.begin(self._clock())
        took = 2.0 if scan.is_deep else 0.02
        self.full_scans_took += took * scan.is_deep
        cast(Clock, self._clock).now += took
        self._low_water.record_scan(scan, None, took)
        return BurstDecision(more=False, wait_seconds=0.0), False


@pytest.mark.parametrize(("is_rung", "at_most"), [(False, 0.1), (True, 1 / 3)])
def test_full_scans_of_turns_are_bounded_rung_or_not(is_rung: bool, at_most: float) -> None:
    clock = Clock(0.0)
    scheduler = Scheduler(["a"], clock=clock)
    low_water = begun_with(1000)
    worker = TurnsFromTheMark(clock, scheduler, low_water)
    while clock.now < 300.0:
        scheduler.found(["a"], is_rung=is_rung)
        worker.run_once()
    assert 0.9 * at_most < worker.full_scans_took / clock.now < at_most + 0.01


def test_scan_that_took_long_is_due_after_ten_times_as_long() -> None:
    low_water = begun_with(1000)
    scan = low_water.begin(10.0)
    assert not low_water.failed(scan, 5.0), "from the mark on, scans are short"
    assert not low_water.is_left_to_workers(15.0)
    assert not low_water.begin(59.9).sees_everything
    assert low_water.begin(60.0).sees_everything


@pytest.mark.parametrize("is_kept", [True, False])
def test_without_shorter_scan_model_waits_until_key_is_found(is_kept: bool) -> None:
    low_water = LowWater(is_kept=is_kept)
    assert low_water.failed(low_water.begin(0.0), 5.0)
    assert low_water.is_left_to_workers(49.9)
    assert not low_water.is_left_to_workers(50.0)
    worker = low_water.begin(6.0)
    assert worker.sees_everything, "a worker may take longer"
    low_water.record_scan(worker, None, 20.0)
    assert low_water.is_left_to_workers(30.0), "nothing to begin at"
    low_water.record_scan(low_water.begin(30.0), 1000, 20.0)
    assert not low_water.is_left_to_workers(30.0)


def test_a_scan_from_mark_that_took_too_long_leaves_model_alone() -> None:
    low_water = begun_with(1000)
    assert low_water.failed(low_water.begin(1.0), 5.0)
    assert low_water.is_left_to_workers(50.9)


def test_a_model_without_a_mark_has_no_start_whatever_is_found() -> None:
    low_water = LowWater(is_kept=False)
    for now in (0.0, 1.0):
        scan = low_water.begin(now)
        assert (scan.start, scan.sees_everything) == (None, True)
        low_water.record_scan(scan, "abc", LONG)
    assert low_water.mark is None


@given(st.lists(st.tuples(st.floats(0.001, 5.0), st.floats(0.0, 3.0)), min_size=1, max_size=60))
def test_scans_from_start_take_no_more_than_a_tenth_of_time(steps: list[tuple[float, float]]) -> None:
    low_water = LowWater(is_kept=True)
    now, spent, last = 0.0, 0.0, 0.0
    for cost, pause in steps:
        scan = low_water.begin(now)
        took = cost if scan.is_deep else 0.001
        if scan.is_deep:
            assert spent <= now / COSTS_AT_MOST_ONE_IN + 1e-6, "what came before is paid for"
            spent, last = spent + took, took
        low_water.record_scan(scan, 1000, took)
        now += took + pause
    assert spent <= now / COSTS_AT_MOST_ONE_IN + last + 1e-6


@dataclass
class Table:
    """A table, workers that lock what they send, and one mark. Every scan from the start takes :data:`LONG`."""

    low_water: LowWater = field(default_factory=lambda: LowWater(is_kept=True))
    now: float = 0.0
    #: What happens is numbered.
    number: int = 0
    #: Committed keys, with the number of when they were committed, or given back.
    rows: dict[int, int] = field(default_factory=dict)
    bursts: list[tuple[int, Scan, list[int]]] = field(default_factory=list)
    #: When the last of the scans began that began at the start, and ended well.
    seen: int = -1

    def begin(self) -> Scan:
        self.number += 1
        scan = self.low_water.begin(self.now)
        assert scan.start is not None
        below = [key for key in set(self.rows) - self.locked() if key < scan.start and self.rows[key] < self.seen]
        assert not below, f"the scan begins at {scan.start}"
        return scan

    def locked(self) -> set[int]:
        return {key for _, _, keys in self.bursts for key in keys}

    def record_scan(self, number: int, scan: Scan, found: Iterable[int]) -> None:
        self.low_water.record_scan(scan, min(found, default=None), LONG if scan.is_deep else 0.01)
        if scan.sees_everything:
            self.seen = max(self.seen, number)

    def commit(self, key: int) -> None:
        self.number += 1
        self.rows.setdefault(key, self.number)

    def look(self) -> None:
        scan = self.begin()
        self.record_scan(self.number, scan, [key for key in self.rows if key >= (scan.start or 0)])
        self.now += LONG if scan.is_deep else 0.01

    def lock(self, limit: int) -> None:
        scan, locked = self.begin(), self.locked()
        found = sorted(key for key in set(self.rows) - locked if key >= (scan.start or 0))[:limit]
        self.bursts.append((self.number, scan, found))

    def end(self, choice: int, *, well: bool) -> None:
        self.number += 1
        number, scan, keys = self.bursts.pop(choice % len(self.bursts))
        if well:
            self.record_scan(number, scan, keys)
        else:
            self.low_water.give_up(scan)
        for key in keys:
            if well:
                del self.rows[key]
            else:
                self.rows[key] = self.number


STEPS = st.one_of(
    st.tuples(st.just("commit"), st.integers(-20, 20)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("lock"), st.integers(1, 4)),
    st.tuples(st.just("end"), st.integers(0, 5)),
    st.tuples(st.just("fail"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.integers(0, 12)),
)


@settings(max_examples=150 * FACTOR, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_what_a_scan_from_the_start_has_seen_is_never_below_the_mark_and_such_a_scan_comes_in_time(
    steps: list[tuple[str, int]],
) -> None:
    table = Table()
    for name, argument in steps:
        match name:
            case "commit":
                table.commit(argument)
            case "look":
                table.look()
            case "lock":
                table.lock(argument)
            case "end" | "fail" if table.bursts:
                table.end(argument, well=name == "end")
            case "wait":
                table.now += argument
    table.now += COSTS_AT_MOST_ONE_IN * LONG
    assert table.begin().sees_everything
