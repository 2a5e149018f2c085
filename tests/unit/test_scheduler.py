"""Workers wait for a model with work; whoever brings some wakes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from relay.scheduler import Scheduler
from relay.scheduler.ring_rate import QUIET_AFTER, STEP_SECONDS
from tests.support.clock import Clock


def waiting(scheduler: Scheduler, timeout_seconds: float = 20) -> tuple[threading.Thread, list[str | None]]:
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(scheduler.take(timeout_seconds)))
    thread.start()
    return thread, taken


def wakes(change: Callable[[Scheduler], object], scheduler: Scheduler) -> str | None:
    thread, taken = waiting(scheduler)
    change(scheduler)
    thread.join(10)
    assert not thread.is_alive()
    return taken[0]


def test_work_that_is_found_wakes_a_waiting_worker() -> None:
    assert wakes(lambda scheduler: scheduler.found(["a"]), Scheduler(["a"])) == "a"


def test_a_full_burst_wakes_a_second_worker() -> None:
    scheduler = Scheduler(["a"])
    scheduler.found(["a"])
    scheduler.take(0)
    assert wakes(lambda scheduler: scheduler.give_back("a", more=True), scheduler) == "a"


def test_closing_wakes_everybody_with_nothing() -> None:
    scheduler = Scheduler(["a"])
    assert wakes(Scheduler.close, scheduler) is None
    scheduler.found(["a"])
    assert scheduler.take(0) is None


def test_waiting_ends_at_the_timeout() -> None:
    started = time.monotonic()
    assert Scheduler(["a"]).take(0.05) is None
    assert time.monotonic() - started < 30


def test_a_model_on_hold_is_taken_when_its_time_has_come() -> None:
    scheduler = Scheduler(["a"])
    scheduler.found(["a"])
    scheduler.take(0)
    scheduler.give_back("a", more=True, wait_seconds=0.2)
    assert scheduler.take(0) is None
    assert scheduler.take(10) == "a"


def test_activity_is_told_once() -> None:
    scheduler = Scheduler(["a", "b"])
    scheduler.found(["a"])
    scheduler.take(0)
    scheduler.give_back("a", more=False, sent=True)
    asked = (["b"], ["a", "b"], ["a"])
    assert [scheduler.take_activity(names) for names in asked] == [set(), {"a"}, set()]


def test_worker_that_takes_a_model_wakes_another_for_what_is_left() -> None:
    scheduler = Scheduler(["a", "b"])
    threads = [waiting(scheduler) for _ in range(2)]
    scheduler.found(["a", "b"])
    for thread, _ in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert sorted(str(name) for _, taken in threads for name in taken) == ["a", "b"]


def test_worker_that_waits_learns_of_times_that_came_up_since() -> None:
    scheduler = Scheduler(["a", "b"])
    scheduler.found(["a"])
    scheduler.take(0)
    thread, taken = waiting(scheduler)
    # "a" is due soon; nobody but the thread, which began to wait before, is there to take it.
    scheduler.give_back("a", more=False, wait_seconds=0.05)
    scheduler.found(["b"])
    scheduler.take(0)
    thread.join(10)
    assert (thread.is_alive(), taken[0] in {"a", "b"}) == (False, True)


def test_steps_that_find_hardly_anything_are_told_of_once() -> None:
    clock, told = Clock(), []
    scheduler = Scheduler(["a", "b"], clock=clock)
    scheduler.on_quiet(lambda: told.append(clock.now))
    scheduler.begin_steps(["a"])

    def step(*, sent: bool) -> None:
        clock.now += STEP_SECONDS
        assert scheduler.take(0) == "a"
        scheduler.give_back("a", more=False, sent=sent)
        assert scheduler.take(0) is None, "not before the next step"

    for _ in range(QUIET_AFTER - 1):
        step(sent=False)
    step(sent=True)
    step(sent=False)
    assert (scheduler.quiet(), told) == (set(), [])
    for _ in range(5):
        step(sent=False)
    assert (scheduler.quiet(), len(told)) == ({"a"}, 1)
    scheduler.end_steps(["a"])
    clock.now += 1
    assert scheduler.take(0) == "a"
    scheduler.give_back("a", more=False)
    clock.now += 1
    assert (scheduler.take(0), scheduler.quiet()) == (None, set())


def test_turn_for_a_bell_that_did_not_see_every_key_has_another_one() -> None:
    clock = Clock()
    scheduler = Scheduler(["a"], clock=clock)

    def turn(again_seconds: float | None = None) -> None:
        assert scheduler.take(0) == "a"
        scheduler.give_back("a", more=False, again_seconds=again_seconds)
        assert scheduler.take(0) is None

    scheduler.found(["a"], is_rung=True)
    turn(again_seconds=0.5)
    clock.now += 0.5
    turn(again_seconds=0.25)
    # A bell in between is answered at once, and that turn takes the place of the one that was due.
    scheduler.found(["a"], is_rung=True)
    turn()
    clock.now += 1
    assert scheduler.take(0) is None
    # A poll that found it comes again by itself.
    scheduler.found(["a"])
    turn(again_seconds=0.5)
    clock.now += 1
    assert scheduler.take(0) is None
