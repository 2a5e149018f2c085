"""When the probe looks next, and what a look proves to those who asked for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from relay.exits import StopRequest
from relay.health import Health
from relay.lookout import STUCK_AFTER_SECONDS, Lookout
from relay.looks import SENT_PAUSE_SECONDS, Looks
from relay.pacing import PollInterval
from tests.support.clock import Clock

#: Longer than any test.
NEVER = 3600.0


def test_a_look_that_is_under_way_is_not_the_one_that_was_asked_for() -> None:
    looks = Looks()
    looks.begin()
    number = looks.ask()
    looks.end(calm=True)
    assert looks.last()[0] < number
    looks.begin()
    looks.end(calm=False)
    assert looks.last() == (number, False)


def test_who_asks_while_a_look_is_under_way_is_not_forgotten() -> None:
    looks = Looks()
    looks.begin()
    looks.ask(cause="doorbell", thorough=True)
    looks.end(calm=True)
    looks.wait(NEVER)
    assert looks.begin() == ("doorbell", True)
    assert looks.begin() == ("poll", False)


@pytest.mark.parametrize("wake", [Looks.ask, Looks.close])
def test_who_waits_is_woken(wake: Any) -> None:
    looks = Looks()
    thread = threading.Thread(target=looks.wait, args=(NEVER,), daemon=True)
    thread.start()
    wake(looks)
    thread.join(20)
    assert not thread.is_alive()


def test_listeners_are_told_of_the_end_of_each_look_and_of_the_end_of_all() -> None:
    looks = Looks()
    told: list[tuple[int, bool]] = []
    looks.on_end(lambda: told.append(looks.last()))
    looks.begin()
    looks.end(calm=True)
    looks.close()
    assert told == [(1, True), (1, True)]


def test_signals_that_were_sent_bring_a_look_at_once_where_there_is_a_doorkeeper() -> None:
    clock = Clock(100.0)
    looks = Looks(clock)
    looks.begin()
    waiting = threading.Thread(target=looks.wait, args=(NEVER,), daemon=True)
    looks.set_doorkeeper("d", asleep=True)
    looks.sent()
    clock.now += SENT_PAUSE_SECONDS
    waiting.start()
    waiting.join(20)
    assert not waiting.is_alive()


class StubProbe:
    """Says what a test wants it to say."""

    def __init__(self) -> None:
        self.database_is_up = self.saw_everything = True
        self.finds = False
        self.causes: list[str] = []

    def run_once(self, cause: str) -> bool:
        self.causes.append(cause)
        return self.finds


class StubDispatcher:
    active = False

    def was_active(self) -> bool:
        return self.active

    def is_busy(self) -> bool:
        return self.active


class Watched:
    def __init__(self) -> None:
        self.clock = Clock(100.0)
        self.probe, self.dispatcher, self.looks = StubProbe(), StubDispatcher(), Looks(self.clock)
        requests: list[StopRequest] = []
        parts: Any = (self.probe, self.dispatcher)
        self.lookout = Lookout(
            *parts,
            Health(60),
            PollInterval(1.0),
            self.looks,
            threading.Event(),
            requests.append,
            until_empty=False,
            patience_seconds=30,
            clock=self.clock,
        )

    def is_calm(self, *, finds: bool, active: bool = False, saw_everything: bool = True) -> bool:
        self.probe.finds, self.dispatcher.active, self.probe.saw_everything = finds, active, saw_everything
        self.lookout.run_once()
        return self.looks.last()[1]


def test_a_look_is_calm_when_it_saw_everything_and_found_nothing() -> None:
    watched = Watched()
    assert watched.is_calm(finds=False)
    assert not watched.is_calm(finds=False, saw_everything=False)
    assert not watched.is_calm(finds=True, active=True)


def test_what_is_stuck_keeps_no_doorkeeper_awake() -> None:
    watched = Watched()
    assert not watched.is_calm(finds=True, active=True)
    watched.clock.now += STUCK_AFTER_SECONDS / 2
    assert not watched.is_calm(finds=True)
    watched.clock.now += STUCK_AFTER_SECONDS
    assert watched.is_calm(finds=True)
    assert not watched.is_calm(finds=True, saw_everything=False)


def test_a_look_that_fails_is_not_calm() -> None:
    watched = Watched()
    assert watched.is_calm(finds=False)
    watched.probe.run_once = None  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError):
        watched.lookout.run_once()
    assert watched.looks.last() == (2, False)


def test_the_look_after_a_bell_is_counted_as_one() -> None:
    watched = Watched()
    watched.looks.ask(cause="doorbell")
    watched.looks.ask()
    watched.lookout.run_once()
    watched.lookout.run_once()
    assert watched.probe.causes == ["doorbell", "poll"]
