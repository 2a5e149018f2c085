"""Workers wait for a model with work; whoever brings some wakes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from relay.scheduler import Dispatcher, Schedule


def waiting(dispatcher: Dispatcher, timeout_seconds: float = 20) -> tuple[threading.Thread, list[str | None]]:
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(dispatcher.take(timeout_seconds)))
    thread.start()
    return thread, taken


def wakes(change: Callable[[Dispatcher], object], dispatcher: Dispatcher) -> str | None:
    thread, taken = waiting(dispatcher)
    change(dispatcher)
    thread.join(10)
    assert not thread.is_alive()
    return taken[0]


def test_work_that_is_found_wakes_a_waiting_worker() -> None:
    assert wakes(lambda dispatcher: dispatcher.found(["a"]), Dispatcher(Schedule(["a"]))) == "a"


def test_a_full_burst_wakes_a_second_worker() -> None:
    dispatcher = Dispatcher(Schedule(["a"]))
    dispatcher.found(["a"])
    dispatcher.take(0)
    assert wakes(lambda dispatcher: dispatcher.give_back("a", more=True), dispatcher) == "a"


def test_closing_wakes_everybody_with_nothing() -> None:
    dispatcher = Dispatcher(Schedule(["a"]))
    assert wakes(Dispatcher.close, dispatcher) is None
    dispatcher.found(["a"])
    assert dispatcher.take(0) is None


def test_waiting_ends_at_the_timeout() -> None:
    started = time.monotonic()
    assert Dispatcher(Schedule(["a"])).take(0.05) is None
    assert time.monotonic() - started < 30


def test_a_model_on_hold_is_taken_when_its_time_has_come() -> None:
    dispatcher = Dispatcher(Schedule(["a"]))
    dispatcher.found(["a"])
    dispatcher.take(0)
    dispatcher.give_back("a", more=True, wait_seconds=0.2)
    assert dispatcher.take(0) is None
    assert dispatcher.take(10) == "a"


def test_activity_is_told_once() -> None:
    dispatcher = Dispatcher(Schedule(["a"]))
    dispatcher.found(["a"])
    dispatcher.take(0)
    dispatcher.give_back("a", more=False, sent=True)
    assert [dispatcher.was_active(), dispatcher.was_active()] == [True, False]


def test_it_is_told_once_that_a_models_signals_were_sent_when_nothing_more_is_known_of_it() -> None:
    told: list[str] = []
    dispatcher = Dispatcher(Schedule(["a", "b"]), on_sent=lambda: told.append("sent"))

    def turn(name: str, **result: bool) -> int:
        dispatcher.found([name])
        assert dispatcher.take(0) == name
        told.clear()
        dispatcher.give_back(name, **{"more": False, **result})
        return len(told)

    assert turn("a", sent=True) == 1
    assert turn("a") == 0, "a turn that found nothing after one that was the last brings no look after the other"
    assert turn("a", sent=True, more=True) == 0, "the next turn follows at once"
    assert turn("a") == 1, "full bursts end with a turn that finds nothing"
    dispatcher.found(["b"])
    assert dispatcher.take(0) == "b"
    dispatcher.give_back("b", more=False)
    assert told == ["sent"], "what was sent of one model is not told of another"
