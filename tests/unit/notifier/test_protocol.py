"""The doorkeeper's steps between looks and locks, with sessions that grant a lock at once, or not at all."""

from __future__ import annotations

import os
import re
import selectors
from collections.abc import Iterator
from typing import cast

import pytest
from psycopg2.errors import LockNotAvailable

from relay.notifier.connection import AsyncConnection, Waker
from relay.notifier.protocol import TRY_EVERY_SECONDS, LeaderProtocol, State
from relay.poller.requests import PollRequests
from relay.runtime import Runtime
from tests.support.clock import Clock

OID, OTHER_OID = 16384, 16385


class GrantingSession:
    """Answers each statement at once. Locks are granted but for those of some tables."""

    events = selectors.EVENT_READ

    def __init__(self, other: GrantingSession | None = None) -> None:
        self._other = other
        # Never ready, as a session that has nothing to tell.
        self._pipe = os.pipe()
        self._is_open = True
        self.rung: list[tuple[str, str]] = []
        self.locked: set[int] = set()
        self.not_granted: set[int] = set()
        self._has_failed = False
        self._rows: list[tuple[int, bool]] = []

    def open_another(self) -> GrantingSession | None:
        return self._other

    def fileno(self) -> int:
        return self._pipe[0]

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            for end in self._pipe:
                os.close(end)

    def send(self, statement: str) -> None:
        found = re.search(r"ARRAY\[([\d, ]*)\]", statement)
        oids = {int(one) for one in found[1].split(",")} if found else set[int]()
        self._rows = [(oid, oid not in self.not_granted) for oid in oids]
        if "pg_advisory_lock(" in statement:
            # One after the other: those that were granted before the one that is not are kept.
            self.locked |= oids - self.not_granted
            self._has_failed = bool(oids & self.not_granted)
        elif "FROM pg_locks" in statement:
            self.locked.clear()
        elif "pg_advisory_unlock(" in statement:
            self.locked -= oids

    def advance(self) -> bool:
        if self._has_failed:
            self._has_failed = False
            raise LockNotAvailable
        return True

    def rows(self) -> list[tuple[int, bool]]:
        return self._rows

    def take_notifications(self) -> list[tuple[str, str]]:
        taken, self.rung = self.rung, []
        return taken


class Watch:
    """A vigil whose looks are made, and found calm or not, by the test."""

    def __init__(self) -> None:
        self.looks = PollRequests()
        self.waker = Waker()
        self.clock = Clock(100.0)
        self.hand = GrantingSession()
        self.ear = GrantingSession(self.hand)
        self.ear.not_granted = {OTHER_OID}
        self.vigil = LeaderProtocol(
            "doorkeeper",
            cast(AsyncConnection, self.ear),
            {OID: "First", OTHER_OID: "Second"},
            self.looks,
            self.waker,
            (),
            Runtime(clock=self.clock),
        )
        self.vigil.begin()
        self.step()

    def step(self) -> State:
        self.waker.wake()
        self.vigil.run_once()
        return self.vigil.state

    def look(self, *, calm: bool) -> bool:
        """Make a look; return whether it was to be thorough."""
        thorough = self.looks.begin()[1]
        self.looks.end(found_nothing=calm)
        return thorough

    def answer_the_other_too(self) -> None:
        """Have it become the notifier of the other table as well, when it tries again."""
        self.ear.not_granted.clear()
        self.clock.now += TRY_EVERY_SECONDS

    def known_to_sleep(self) -> dict[str, bool]:
        """What the looks, whose pauses depend on it, know of the notifier."""
        return dict(self.looks._asleep)

    def until_looking(self) -> None:
        self.look(calm=True)
        assert self.step() is State.QUEUEING
        assert self.step() is State.POLLING
        assert self.hand.locked == {OID}


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.vigil.close()
    watch.ear.close()


def test_it_sleeps_after_a_thorough_look_that_was_calm(watch: Watch) -> None:
    assert watch.step() is State.AWAKE
    assert watch.known_to_sleep() == {"doorkeeper": False}
    watch.until_looking()
    assert watch.look(calm=True)
    assert watch.step() is State.ASLEEP
    assert watch.known_to_sleep() == {"doorkeeper": True}
    watch.ear.rung.append(("signalbus_16384", ""))
    assert watch.step() is State.AWAKE
    assert watch.hand.locked == set()
    assert watch.known_to_sleep() == {"doorkeeper": False}


def test_calm_look_after_thorough_one_not_lets_it_not_sleep(watch: Watch) -> None:
    watch.until_looking()
    assert watch.look(calm=False)
    # It ends before the notifier has noticed the first.
    assert not watch.look(calm=True)
    assert watch.step() is State.AWAKE
    assert watch.hand.locked == set()


def test_once_it_is_over_nobody_waits_for_it(watch: Watch) -> None:
    assert watch.known_to_sleep() == {"doorkeeper": False}
    watch.vigil.close()
    assert watch.known_to_sleep() == {}


def test_table_won_while_it_queues_is_locked_before_last_look(watch: Watch) -> None:
    watch.look(calm=True)
    assert watch.step() is State.QUEUEING
    watch.answer_the_other_too()
    assert watch.step() is State.QUEUEING
    assert watch.step() is State.POLLING
    assert watch.hand.locked == {OID, OTHER_OID}


def test_locks_before_one_that_came_too_late_are_let_go(watch: Watch) -> None:
    watch.answer_the_other_too()
    watch.hand.not_granted = {OTHER_OID}
    watch.step()
    watch.look(calm=True)
    assert watch.step() is State.QUEUEING
    assert watch.hand.locked == {OID}
    assert watch.step() is State.AWAKE
    assert watch.hand.locked == set(), "its producers would ring for nobody"
