"""Which model a free worker takes next."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from hypothesis import given
from hypothesis import strategies as st

from relay.scheduler import MOST_SPARE_WORKERS, SLOW_TURN_SECONDS, Scheduler
from tests.support.clock import Clock


class Schedule:
    """A scheduler whose callers say what time it is, and do not wait."""

    def __init__(self, names: Iterable[str], workers: int = 2) -> None:
        self._clock = Clock()
        self._scheduler = Scheduler(names, workers, self._clock)
        self._held_until: dict[str, float] = {}

    def _at(self, now: float | None) -> Scheduler:
        self._clock.now = self._clock.now if now is None else now
        return self._scheduler

    def found(self, names: Iterable[str]) -> None:
        self._scheduler.found(names)

    def set_paused(self, names: Collection[str], *, paused: bool = True) -> None:
        self._scheduler.set_paused(names, paused=paused)

    def take(self, now: float, worker: str = "") -> str | None:
        return self._at(now).take(0.0, worker)

    def hold(self, name: str, until: float) -> None:
        """Hold the model when it is given back."""
        self._held_until[name] = until

    def give_back(self, name: str, *, more: bool, now: float | None = None, worker: str = "") -> None:
        scheduler = self._at(now)
        wait_seconds = self._held_until.pop(name, self._clock.now) - self._clock.now
        scheduler.give_back(name, more=more, wait_seconds=wait_seconds, worker=worker)

    def next_time(self, now: float) -> float | None:
        return self._at(now).next_time()

    def add_spare(self, now: float) -> bool:
        return self._at(now).add_spare()

    def remove_spare(self, now: float) -> bool:
        return self._at(now).remove_spare()

    @property
    def is_idle(self) -> bool:
        return self._scheduler.is_idle()


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


def test_what_is_found_while_worker_is_busy_is_taken_afterwards() -> None:
    schedule = Schedule(["a"])
    schedule.found(["a"])
    schedule.take(now=0.0)
    schedule.found(["a"])

    schedule.give_back("a", more=False)

    assert schedule.take(now=0.0) == "a"


def test_model_on_hold_waits_for_its_time_and_holds_up_no_other() -> None:
    schedule = Schedule(["bad", "good"])
    schedule.found(["bad", "good"])
    assert schedule.take(now=0.0) == "bad"
    schedule.hold("bad", until=10.0)
    schedule.give_back("bad", more=False)

    assert schedule.take(now=9.9) == "good"
    schedule.give_back("good", more=False)
    assert schedule.take(now=9.9) is None
    assert schedule.next_time(9.9) == 10.0
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


def test_worker_busy_for_long_does_not_keep_others_from_model() -> None:
    schedule = Schedule(["A"])
    schedule.found(["A"])
    assert schedule.take(now=10.0) == "A"
    schedule.found(["A"])
    assert schedule.next_time(10.0) == 10.0 + SLOW_TURN_SECONDS
    assert schedule.take(now=10.0 + SLOW_TURN_SECONDS - 0.1) is None
    assert schedule.take(now=10.0 + SLOW_TURN_SECONDS) == "A"


def test_a_paused_model_gets_no_turn_and_holds_up_no_other() -> None:
    schedule = Schedule(["a", "b"])
    schedule.found(["a", "b"])
    schedule.set_paused({"a"})
    assert schedule.take(now=0.0) == "b"
    assert schedule.take(now=0.0) is None
    schedule.give_back("b", more=False)
    assert schedule.next_time(0.0) is None
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

    schedule.set_paused({"a"}, paused=False)

    assert schedule.take(now=1000.0) == "a"


def test_a_model_that_failed_and_was_paused_waits_for_its_time_after_it_was_resumed() -> None:
    schedule = Schedule(["a"])
    schedule.found(["a"])
    schedule.take(now=0.0)
    schedule.set_paused({"a"})
    schedule.hold("a", until=10.0)
    schedule.give_back("a", more=False)
    schedule.set_paused({"a"}, paused=False)
    assert schedule.take(now=9.0) is None
    assert schedule.take(now=10.0) == "a"


LATER = SLOW_TURN_SECONDS + 1.0


def test_a_model_that_is_slow_leaves_a_worker_to_the_others() -> None:
    schedule = Schedule(["slow", "other"], workers=2)
    schedule.found(["slow"])
    assert schedule.take(0.0) == "slow"
    schedule.give_back("slow", more=True, now=LATER)

    assert schedule.take(LATER) == "slow"
    assert schedule.take(LATER) is None, "the last worker is kept for models that are not slow"
    schedule.found(["other"])
    assert schedule.take(LATER) == "other"


def test_slow_models_share_the_workers_that_they_may_have() -> None:
    schedule = Schedule(["a", "b", "other"], workers=2)
    schedule.found(["a", "b"])
    for name in ("a", "b"):
        assert schedule.take(0.0) == name
    for name in ("a", "b"):
        schedule.give_back(name, more=True, now=LATER)
    assert schedule.take(LATER) == "a"
    assert schedule.take(LATER) is None
    assert schedule.next_time(LATER) == LATER + SLOW_TURN_SECONDS, "a waiting worker sleeps until that can change"
    schedule.give_back("a", more=True, now=LATER + 1)
    assert schedule.take(LATER + 1) == "b"


def test_a_model_that_is_quick_again_gets_all_workers() -> None:
    schedule = Schedule(["a", "other"], workers=2)
    schedule.found(["a"])
    schedule.take(0.0)
    schedule.give_back("a", more=True, now=LATER)
    schedule.take(LATER)
    schedule.give_back("a", more=True, now=LATER + 1)
    assert [schedule.take(LATER + 1) for _ in range(2)] == ["a", "a"]


def test_where_all_models_are_slow_no_worker_is_kept_free() -> None:
    schedule = Schedule(["only"], workers=2)
    schedule.found(["only"])
    schedule.take(0.0)
    schedule.give_back("only", more=True, now=LATER)
    assert [schedule.take(LATER) for _ in range(2)] == ["only", "only"]


def test_a_spare_worker_is_wanted_when_all_are_busy_one_is_slow_and_a_model_waits() -> None:
    schedule = Schedule(["a", "b"], workers=2)
    schedule.found(["a"])
    schedule.take(0.0, "1")
    schedule.give_back("a", more=True, worker="1")
    assert [schedule.take(0.0, worker) for worker in "12"] == ["a", "a"]
    assert not schedule.add_spare(LATER), "nothing waits"
    schedule.found(["b"])
    assert not schedule.add_spare(SLOW_TURN_SECONDS - 0.1), "nobody is slow yet"
    assert schedule.add_spare(LATER)
    assert not schedule.add_spare(LATER), "one is enough until it is busy"
    assert schedule.take(LATER, "3") == "b"


def test_no_spare_worker_is_wanted_without_a_connection_for_it() -> None:
    scheduler = Scheduler(["a", "b"], workers=1, clock=lambda: now[0], most_spares=0)
    now = [0.0]
    scheduler.found(["a"])
    assert scheduler.take(0.0, "1") == "a"
    scheduler.found(["b"])
    now[0] = LATER
    assert not scheduler.add_spare()


def test_spare_worker_goes_when_enough_are_free_of_slow_turns() -> None:
    schedule = Schedule(["a", "b"], workers=1)
    schedule.found(["a", "b"])
    schedule.take(0.0, "1")
    assert schedule.add_spare(LATER)
    assert not schedule.remove_spare(LATER)
    schedule.give_back("a", more=False, now=LATER, worker="1")
    assert schedule.remove_spare(LATER)
    assert not schedule.remove_spare(LATER)


def test_a_worker_that_is_alone_takes_slow_models_too() -> None:
    schedule = Schedule(["slow", "other"], workers=1)
    schedule.found(["slow"])
    schedule.take(0.0)
    schedule.give_back("slow", more=True, now=LATER)
    assert schedule.take(LATER) == "slow"


class Hangs:
    """Models of which some hang for ever, and a relay that starts spares as they are asked for."""

    def __init__(self, workers: int, names: str, hanging: set[str]) -> None:
        self.schedule, self.hanging = Schedule(names, workers), hanging
        self.free = [str(number) for number in range(workers)]
        self.now, self.served = 0.0, dict.fromkeys(names, 0)

    def step(self) -> None:
        self.now += 0.5
        self.schedule.found(self.served)
        if self.schedule.add_spare(self.now):
            self.free.append(f"spare {self.now}")
        for worker in list(self.free):
            name = self.schedule.take(self.now, worker)
            if name in self.hanging:
                self.free.remove(worker)
            elif name is not None:
                self.served[name] += 1
                self.schedule.give_back(name, more=True, now=self.now, worker=worker)


@given(
    st.integers(1, 4),
    st.sets(st.sampled_from("abcdefgh"), max_size=MOST_SPARE_WORKERS),
)
def test_as_many_models_as_there_can_be_spares_may_hang_and_all_others_are_served(
    workers: int, hanging: set[str]
) -> None:
    hangs = Hangs(workers, "abcdefgh", hanging)
    for _ in range(400):
        hangs.step()
    before = dict(hangs.served)
    for _ in range(40):
        hangs.step()
    starved = [name for name in before if name not in hanging and hangs.served[name] == before[name]]
    assert starved == []


def test_without_spares_left_a_slow_model_shares_the_last_worker() -> None:
    schedule = Schedule(["slow", "other", *"abcde"], workers=2)
    schedule.found(["slow"])
    schedule.take(0.0)
    schedule.give_back("slow", more=False, now=LATER)
    schedule.found("abcde")
    assert [schedule.take(LATER, name) for name in "abcde"[:2]] == ["a", "b"]
    for name in "cde":
        assert schedule.add_spare(2 * LATER)
        assert schedule.take(2 * LATER, name) == name
    schedule.found(["slow"])
    assert schedule.add_spare(3 * LATER)
    assert schedule.take(3 * LATER) == "slow"
