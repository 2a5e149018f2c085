"""When the poller looks next, and what a look proves to those who asked for it."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from relay.exit_codes import EXIT_RUNTIME, StopRequest
from relay.poller.database import PolledDatabase
from relay.poller.interval import PollInterval
from relay.poller.requests import LONGEST_AWAKE_PAUSE_SECONDS, PollRequests
from relay.poller.thread import PollLoop
from relay.poller.until_empty import LastPoll, UntilEmpty
from relay.scheduler import Scheduler, Turn
from tests.support.clock import Clock
from tests.support.recorder import Recorder

#: Longer than any test.
NEVER = 3600.0


def test_a_look_that_is_under_way_is_not_one_that_was_asked_for() -> None:
    looks = PollRequests()
    looks.begin()
    looks.cover(["A", "B"])
    looks.end(["A", "B"])
    assert looks.uncovered(["A", "C"]) == {"A"}
    looks.begin()
    looks.end(["B"])
    assert looks.uncovered(["A", "B"]) == {"A"}


def test_who_asks_while_a_look_is_under_way_is_not_forgotten() -> None:
    looks = PollRequests()
    looks.begin()
    looks.poll_now(cause="doorbell", thorough=True)
    looks.end([])
    looks.wait(NEVER)
    assert looks.begin() == ("doorbell", True, frozenset())
    assert looks.begin() == ("poll", False, frozenset())


@pytest.mark.parametrize("wake", [PollRequests.poll_now, PollRequests.close])
def test_who_waits_is_woken(wake: Any) -> None:
    looks = PollRequests()
    thread = threading.Thread(target=looks.wait, args=(NEVER,), daemon=True)
    thread.start()
    wake(looks)
    thread.join(20)
    assert not thread.is_alive()


def test_coverage_is_requested_at_once_and_then_at_usual_time_until_it_is_reached() -> None:
    clock = Clock(100.0)
    looks = PollRequests(clock)
    looks.cover(["A", "B"])
    assert pause_of(looks, clock, 60.0) == 0.0
    assert looks.begin().to_cover == {"A", "B"}
    looks.end(["B"])
    assert pause_of(looks, clock, 60.0) == 60.0
    assert looks.begin() == ("poll", False, frozenset({"A"}))


def test_model_whose_full_scan_timed_out_is_not_to_be_covered_at_once() -> None:
    looks = PollRequests()
    looks.cover(["A"])
    looks.begin()
    looks.end([], too_slow=["A"])
    assert looks.begin().to_cover == frozenset()
    looks.end([])
    assert looks.begin().to_cover == frozenset()
    looks.end(["A"])
    assert looks.uncovered(["A"]) == set()
    looks.cover(["A"])
    assert looks.begin().to_cover == {"A"}


def test_listeners_are_told_of_the_end_of_each_look_and_of_the_end_of_all() -> None:
    looks = PollRequests()
    told: list[int] = []
    looks.on_end(lambda: told.append(looks.last()))
    looks.begin()
    looks.end([])
    looks.close()
    assert told == [1, 1]


class Pauses(threading.Condition):
    """Notes for how long it is waited, and lets that time pass."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds += timeout
        self.clock.now += timeout
        return True


def pause_of(looks: PollRequests, clock: Clock, longest_seconds: float) -> float:
    looks._changed = pauses = Pauses(clock)
    looks.wait(longest_seconds)
    return pauses.seconds


def test_looks_are_not_far_apart_while_producers_may_be_silent() -> None:
    clock = Clock(100.0)
    looks = PollRequests(clock)
    assert pause_of(looks, clock, 60.0) == 60.0
    looks.set_notifier("a", answers=["A"])
    assert pause_of(looks, clock, 60.0) == 60.0
    looks.set_notifier("b", awake=True)
    assert pause_of(looks, clock, 60.0) == LONGEST_AWAKE_PAUSE_SECONDS
    assert pause_of(looks, clock, 0.5) == 0.5
    looks.set_notifier("b")
    assert pause_of(looks, clock, 60.0) == 60.0


class StubProbe:
    """Says what a test wants it to say."""

    database = PolledDatabase(None, cast(Any, None), ())

    def __init__(self) -> None:
        self.database_is_up = self.covered_everything = self.covered_every_key = True
        self.finds = False
        self.held: list[str] = []
        self.covered: frozenset[str] = frozenset()
        self.too_slow: frozenset[str] = frozenset()
        self.found: list[str] = []
        self.retry_in_seconds: float | None = None
        self.causes: list[str] = []

    def run_once(self, cause: str, *, thorough: bool, to_cover: frozenset[str]) -> bool:
        self.causes.append(cause)
        self.covered_every_key = thorough
        self.covered = to_cover
        return self.finds

    def has_suspects(self) -> bool:
        return False

    def count_failed(self) -> int:
        return 0


class StubUnreached:
    def polled(self, pending: list[str]) -> None:
        self.pending = pending

    def describe(self, pending: list[str]) -> str:
        return "; ".join(f"{name}: locked" for name in pending)


class StubDispatcher:
    active: frozenset[str] = frozenset()
    last_sent_at = float("-inf")
    #: How long ago the burst that is being sent made progress.
    moved_seconds: float | None = None

    def take_activity(self, _names: list[str]) -> frozenset[str]:
        return self.active

    def is_sending(self, within_seconds: float) -> bool:
        return self.moved_seconds is not None and self.moved_seconds <= within_seconds

    def is_idle(self) -> bool:
        return not self.active

    def turns_without_progress(self, seconds: float) -> dict[str, list[Turn]]:
        hangs = self.moved_seconds is not None and self.moved_seconds >= seconds
        return {"A": [Turn("worker-2", 100.0, 100.0, is_sending=True)]} if hangs else {}


class Watched:
    def __init__(self, *, until_empty: bool = False) -> None:
        self.clock = Clock(100.0)
        self.poller, self.scheduler, self.looks = StubProbe(), StubDispatcher(), PollRequests(self.clock)
        self.unreached: Any = StubUnreached()
        self.recorder = Recorder(clock=self.clock)
        poller, scheduler = cast(Any, self.poller), cast(Any, self.scheduler)
        ending = UntilEmpty(1, scheduler, 30, self.clock) if until_empty else None
        further = (PollInterval(1.0), self.unreached, self.recorder.runtime, ending)
        self.poll_loop = PollLoop(poller, scheduler, self.looks, *further)

    @property
    def requests(self) -> list[StopRequest]:
        """The requests to end the relay since the last call."""
        return list(iter(lambda: self.recorder.stop.next_request(0), None))


def test_poll_covers_every_row_when_it_says_so() -> None:
    watched = Watched()
    watched.looks.cover(["A"])
    watched.poll_loop.run_once()
    assert (watched.looks.last(), watched.looks.uncovered(["A"])) == (1, set())


def test_polls_are_frequent_while_signals_flow_that_no_bell_tells_of() -> None:
    watched = Watched()
    watched.looks.set_notifier("doorkeeper", answers=["A"])
    watched.scheduler.active = frozenset({"A"})
    assert watched.poll_loop.run_once() >= 1.0
    watched.scheduler.active = frozenset({"A", "B"})
    assert watched.poll_loop.run_once() < 0.1
    watched.scheduler.active = frozenset({"A"})
    watched.looks.set_notifier("doorkeeper", awake=True)
    assert watched.poll_loop.run_once() < 0.1, "it is awake: producers may be silent"


def test_until_empty_ends_although_every_poll_fails() -> None:
    watched = Watched(until_empty=True)
    stop, polls = watched.recorder.stop, 0

    def fail(_cause: str, **_how: object) -> bool:
        nonlocal polls
        polls += 1
        watched.clock.now += 20.0
        watched.looks.poll_now()
        if polls == 3:
            stop.set()
        raise ConnectionError("no token")

    watched.poller.run_once = fail  # type: ignore[assignment,method-assign]
    watched.poll_loop.run()
    requests = watched.requests
    assert "nothing could be sent for 30 s" in requests[0].reason
    assert requests[0].exit_code == 1


def test_a_look_that_fails_covers_nothing() -> None:
    watched = Watched()
    watched.looks.cover(["A"])
    watched.poller.covered = frozenset({"A"})
    watched.poller.run_once = None  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError):
        watched.poll_loop.run_once()
    assert (watched.looks.last(), watched.looks.uncovered(["A"])) == (1, {"A"})


def test_the_look_after_a_bell_is_counted_as_one() -> None:
    watched = Watched()
    watched.looks.poll_now(cause="doorbell")
    watched.looks.poll_now()
    watched.poll_loop.run_once()
    watched.poll_loop.run_once()
    assert watched.poller.causes == ["doorbell", "poll"]


def test_poll_is_thorough_only_when_notifier_asks_for_it() -> None:
    watched = Watched()
    seen = []
    for ask in (False, True, False):
        if ask:
            watched.looks.poll_now(thorough=True)
        watched.poll_loop.run_once()
        seen.append(watched.poller.covered_every_key)
    assert seen == [False, True, False]


def test_the_relay_does_not_end_as_empty_before_a_thorough_look_has_found_nothing() -> None:
    watched = Watched(until_empty=True)
    watched.poll_loop.run_once()
    assert watched.requests == []
    watched.looks.wait(NEVER)
    watched.poll_loop.run_once()
    assert [request.reason for request in watched.requests] == ["nothing is left to send"]


@pytest.mark.parametrize(
    ("moved_seconds", "why"),
    [(None, "A: locked"), (31, "A: worker-2 has made no progress for 31 s: its send method has not returned")],
)
def test_bursts_busy_without_progress_do_not_keep_it_from_ending(moved_seconds: float | None, why: str) -> None:
    watched = Watched(until_empty=True)
    watched.poller.finds, watched.poller.found = True, ["A"]
    watched.poll_loop.run_once()
    watched.clock.now += 31
    watched.scheduler.moved_seconds = 29
    watched.poll_loop.run_once()
    assert watched.requests == []
    watched.scheduler.moved_seconds = moved_seconds
    watched.poll_loop.run_once()
    [request] = watched.requests
    assert (request.exit_code, request.reason) == (
        EXIT_RUNTIME,
        f"nothing could be sent for 30 s, and signals are left: {why}",
    )


def test_relay_does_not_end_as_empty_while_table_is_unreadable() -> None:
    watched = Watched(until_empty=True)
    watched.poller.covered_everything = False
    watched.poll_loop.run_once()
    assert watched.requests == []
    watched.clock.now += 31
    watched.poll_loop.run_once()
    assert [request.exit_code for request in watched.requests] == [EXIT_RUNTIME]


def test_poll_older_than_what_was_sent_last_does_not_end_the_relay() -> None:
    """A turn may commit after the poll of one database, and end after the poll of the other."""
    clock = Clock(100.0)
    scheduler = Scheduler(["A", "B"], clock=clock)
    ending = UntilEmpty(2, scheduler, 30, clock)
    looks = PollRequests(clock)
    probes: list[Any] = [StubProbe(), StubProbe()]

    def polled(number: int, began_at: float) -> StopRequest | None:
        unreached: Any = StubUnreached()
        return ending.polled(
            LastPoll(probes[number], looks, unreached, began_at, is_left=False, pending=(), covered_every_key=True)
        )

    scheduler.found(["A"])
    assert scheduler.take(0) == "A"
    assert polled(0, began_at=102.0) is None
    clock.now = 103.0
    scheduler.give_back("A", more=False, sent=True)
    assert scheduler.is_idle()
    assert polled(1, began_at=101.0) is None, "what was sent may have written into B"
    assert looks.begin().thorough
    assert polled(0, began_at=104.0) is None
    request = polled(1, began_at=104.0)
    assert request is not None
    assert request.reason == "nothing is left to send"
