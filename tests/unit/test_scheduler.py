"""Workers wait for a model with work; whoever brings some wakes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from relay.scheduler import Scheduler


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
    scheduler = Scheduler(["a"])
    scheduler.found(["a"])
    scheduler.take(0)
    scheduler.give_back("a", more=False, sent=True)
    assert [scheduler.take_activity(), scheduler.take_activity()] == [True, False]


def test_it_is_told_once_that_a_models_signals_were_sent_when_nothing_more_is_known_of_it() -> None:
    told: list[str] = []
    scheduler = Scheduler(["a", "b"], on_sent=lambda: told.append("sent"))

    def turn(name: str, **result: bool) -> int:
        scheduler.found([name])
        assert scheduler.take(0) == name
        told.clear()
        scheduler.give_back(name, **{"more": False, **result})
        return len(told)

    assert turn("a", sent=True) == 1
    assert turn("a") == 0, "a turn that found nothing after one that was the last brings no look after the other"
    assert turn("a", sent=True, more=True) == 0, "the next turn follows at once"
    assert turn("a") == 1, "full bursts end with a turn that finds nothing"
    scheduler.found(["b"])
    assert scheduler.take(0) == "b"
    scheduler.give_back("b", more=False)
    assert told == ["sent"], "what was sent of one model is not told of another"
