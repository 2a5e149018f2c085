"""The doorkeeper's steps between looks and locks, with sessions that grant every lock at once."""

from __future__ import annotations

import os
import re
import selectors
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from relay.looks import Looks
from relay.session import Session, Waker
from relay.vigil import State, Vigil

OID = 16384


class GrantingSession:
    """Answers each statement at once: every lock is granted."""

    events = selectors.EVENT_READ

    def __init__(self) -> None:
        # Never ready, as a session that has nothing to tell.
        self._pipe = os.pipe()
        self._is_open = True
        self.rung: list[tuple[str, str]] = []
        self.locked: set[int] = set()
        self._rows: list[tuple[int, bool]] = []

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
        self._rows = [(oid, True) for oid in oids]
        if "pg_advisory_lock(" in statement:
            self.locked |= oids
        elif "pg_advisory_unlock(" in statement:
            self.locked -= oids

    def advance(self) -> bool:
        return True

    def rows(self) -> list[tuple[int, bool]]:
        return self._rows

    def take_notifications(self) -> list[tuple[str, str]]:
        taken, self.rung = self.rung, []
        return taken


class Watch:
    """A vigil whose looks are made, and found calm or not, by the test."""

    def __init__(self) -> None:
        self.looks = Looks()
        self.waker = Waker()
        self.ear, self.hand = GrantingSession(), GrantingSession()
        self.vigil = Vigil(
            "doorkeeper",
            cast(Session, self.ear),
            lambda: cast(Session, self.hand),
            [OID],
            self.looks,
            self.waker,
            threading.Event(),
            lambda won: None,
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
        self.looks.end(calm=calm)
        return thorough

    def known_to_sleep(self) -> dict[str, bool]:
        """What the looks, whose pauses depend on it, know of the doorkeeper."""
        return dict(self.looks._asleep)

    def until_looking(self) -> None:
        self.look(calm=True)
        assert self.step() is State.QUEUEING
        assert self.step() is State.LOOKING
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


def test_a_calm_look_after_a_thorough_one_that_was_not_lets_it_not_sleep(watch: Watch) -> None:
    watch.until_looking()
    assert watch.look(calm=False)
    # It ends before the doorkeeper has noticed the first.
    assert not watch.look(calm=True)
    assert watch.step() is State.AWAKE
    assert watch.hand.locked == set()


def test_once_it_is_over_nobody_waits_for_it(watch: Watch) -> None:
    assert watch.known_to_sleep() == {"doorkeeper": False}
    watch.vigil.close()
    assert watch.known_to_sleep() == {}
