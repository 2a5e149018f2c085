"""Which model a free worker takes next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.schedule import SLOW_TURN_SECONDS, Schedule


def test_nothing_is_taken_before_something_was_found() -> None:
    assert Schedule(["a", "b"]).take(now=0.0) is None


def test_models_take_turns() -> None:
    schedule = Schedule(["a", "b", "c"])
    schedule.found(["a", "b", "c"])

    turns = []
    for _ in range(6):
        name = schedule.take(now=0.0)
        assert name is not None
        turns.append(name)
        schedule.give_back(name, more=True)

    assert turns == ["a", "b", "c", "a", "b", "c"]


def test_a_new_model_does_not_wait_behind_a_big_backlog() -> None:
    schedule = Schedule(["big", "small"])
    schedule.found(["big"])
    for _ in range(3):
        assert schedule.take(now=0.0) == "big"
        schedule.give_back("big", more=True)

    schedule.found(["small"])

    assert schedule.take(now=0.0) == "small"


def test_one_worker_is_enough_for_a_model_until_a_burst_was_full() -> None:
    schedule = Schedule(["a"])
    schedule.found(["a"])
    assert schedule.take(now=0.0) == "a"
    schedule.found(["a"])
    assert schedule.take(now=0.0) is None

    schedule.give_back("a", more=True)

    assert schedule.take(now=0.0) == "a"
    assert schedule.take(now=0.0) == "a"


def test_what_is_found_while_a_worker_is_busy_is_taken_afterwards() -> None:
    schedule = Schedule(["a"])
    schedule.found(["a"])
    schedule.take(now=0.0)
    schedule.found(["a"])

    schedule.give_back("a", more=False)

    assert schedule.take(now=0.0) == "a"


def test_a_model_on_hold_waits_for_its_time_and_holds_up_no_other() -> None:
    schedule = Schedule(["bad", "good"])
    schedule.found(["bad", "good"])
    assert schedule.take(now=0.0) == "bad"
    schedule.hold("bad", until=10.0)
    schedule.give_back("bad", more=False)

    assert schedule.take(now=9.9) == "good"
    schedule.give_back("good", more=False)
    assert schedule.take(now=9.9) is None
    assert schedule.next_time() == 10.0
    assert schedule.take(now=10.0) == "bad"


def test_it_is_idle_only_when_nothing_is_known_and_nobody_works() -> None:
    schedule = Schedule(["a"])
    assert schedule.is_idle
    schedule.found(["a"])
    assert not schedule.is_idle
    schedule.take(now=0.0)
    assert not schedule.is_idle
    schedule.give_back("a", more=False)
    assert schedule.is_idle


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60))
def test_no_model_with_work_waits_longer_than_one_round(finds: list[str]) -> None:
    schedule = Schedule("abcd")
    waiting_turns: dict[str, int] = {}
    for name in finds:
        schedule.found([name])
        waiting_turns.setdefault(name, 0)
        taken = schedule.take(now=0.0)
        assert taken is not None
        waiting_turns.pop(taken, None)
        schedule.give_back(taken, more=False)
        waiting_turns = {other: turns + 1 for other, turns in waiting_turns.items()}
        assert all(turns < 4 for turns in waiting_turns.values())


def test_a_worker_that_is_busy_for_long_does_not_keep_others_from_its_model() -> None:
    schedule = Schedule(["A"])
    schedule.found(["A"])
    assert schedule.take(now=10.0) == "A"
    schedule.found(["A"])
    assert schedule.next_time() == 10.0 + SLOW_TURN_SECONDS
    assert schedule.take(now=10.0 + SLOW_TURN_SECONDS - 0.1) is None
    assert schedule.take(now=10.0 + SLOW_TURN_SECONDS) == "A"


def test_a_paused_model_gets_no_turn_and_holds_up_no_other() -> None:
    schedule = Schedule(["a", "b"])
    schedule.found(["a", "b"])
    schedule.set_paused({"a"})
    assert schedule.take(now=0.0) == "b"
    assert schedule.take(now=0.0) is None
    schedule.give_back("b", more=False)
    assert schedule.next_time() is None
    assert schedule.is_idle


def test_a_pause_during_catch_up_lets_the_burst_in_flight_end_and_starts_no_other() -> None:
    schedule = Schedule(["a"])
    schedule.found(["a"])
    assert schedule.take(now=0.0) == "a"
    schedule.set_paused({"a"})
    assert not schedule.is_idle
    schedule.found(["a"])
    schedule.give_back("a", more=True)
    assert schedule.take(now=1000.0) is None
    assert schedule.is_idle

    schedule.set_paused(set())

    assert schedule.take(now=1000.0) == "a"


def test_a_model_that_failed_and_was_paused_waits_for_its_time_after_it_was_resumed() -> None:
    schedule = Schedule(["a"])
    schedule.found(["a"])
    schedule.take(now=0.0)
    schedule.set_paused({"a"})
    schedule.hold("a", until=10.0)
    schedule.give_back("a", more=False)
    schedule.set_paused(set())
    assert schedule.take(now=9.0) is None
    assert schedule.take(now=10.0) == "a"
