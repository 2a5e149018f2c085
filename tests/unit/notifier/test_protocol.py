"""The notifier's steps between polls and locks, with sessions that grant a lock at once, or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import cast
from unittest.mock import Mock

import pytest
from psycopg2.errors import LockNotAvailable

from relay.notifier import notification_test
from relay.notifier.connection import AsyncConnection, Waker
from relay.notifier.notification_test import CHANNEL
from relay.notifier.protocol import TRY_EVERY_SECONDS, LeaderProtocol, State
from relay.notifier.wakeups import Wakeups
from relay.poller.requests import PollRequests
from relay.runtime import Runtime
from relay.scheduler.ring_rate import MOST_AT_ONCE
from tests.support.clock import Clock

OID, OTHER_OID = 16384, 16385


class GrantingSession:
    """Answers each statement at once. Locks are granted but for those of some tables."""

    events = select.POLLIN

    def __init__(self, other: GrantingSession | None = None) -> None:
        self._other = other
        # Never ready, as a session that has nothing to tell.
        self._pipe = os.pipe()
        self._is_open = True
        self.rung: list[tuple[str, str]] = []
        #: What arrives with the result of UNLISTEN.
        self.rung_later: list[tuple[str, str]] = []
        self.listens: set[str] = set()
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
        if statement.startswith("UNLISTEN"):
            self.rung += self.rung_later
        self.listens |= set(re.findall(r'LISTEN "(\w+)"', statement))
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


class Answers(Wakeups):
    """Notes what a bell leads to."""

    def __init__(self, requests: PollRequests) -> None:
        self.requests = requests
        self.answered: list[str] = []
        self.stepping: set[str] = set()
        self.is_quiet = False

    def on_change(self, listener: Callable[[], None]) -> None:
        pass

    def rung(self, models: Collection[str]) -> None:
        self.answered += models

    def begin_steps(self, models: Iterable[str]) -> None:
        self.stepping |= set(models)

    def end_steps(self, models: Iterable[str]) -> None:
        self.stepping -= set(models)

    def quiet(self) -> set[str]:
        return set(self.stepping) if self.is_quiet else set()


class Watch:
    """A notifier whose polls are made, and cover every row or not, by the test."""

    def __init__(self) -> None:
        self.polls = PollRequests()
        self.answers = Answers(self.polls)
        self.waker = Waker()
        self.clock = Clock(100.0)
        self.hand = GrantingSession()
        self.ear = GrantingSession(self.hand)
        self.ear.not_granted = {OTHER_OID}
        self.paused: set[str] = set()
        self.protocol = LeaderProtocol(
            "doorkeeper",
            cast(AsyncConnection, self.ear),
            {OID: "First", OTHER_OID: "Second"},
            self.answers,
            self.waker,
            self.paused,
            Runtime(clock=self.clock),
        )
        self.protocol.begin()

    def step(self) -> State:
        self.waker.wake()
        self.protocol.run_once()
        return self.protocol.state

    def poll(self, *, covers: bool = True) -> bool:
        """Poll; return whether it was to cover every row."""
        thorough = self.polls.begin()[1]
        self.polls.end(covered_every_row=covers)
        return thorough

    def ring(self, times: int = 1, oid: int = OID) -> State:
        self.ear.rung += [(f"signalbus_{oid}", "")] * times
        return self.step()

    def answer_the_other_too(self) -> None:
        """Have it become the notifier of the other table as well, when it tries again."""
        self.ear.not_granted.clear()
        self.clock.now += TRY_EVERY_SECONDS

    def known(self) -> dict[str, frozenset[str] | None]:
        """What the polls, whose pauses depend on it, know of the notifier."""
        return dict(self.polls._answered)

    def fall_asleep(self) -> None:
        while self.step() is not State.POLLING:
            assert self.protocol.state is State.QUEUEING
        assert self.poll()
        assert self.step() is State.ASLEEP


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.protocol.close()
    watch.ear.close()


def test_it_sleeps_after_a_poll_of_every_row_that_began_with_the_locks(watch: Watch) -> None:
    assert watch.step() is State.QUEUEING
    assert watch.poll()
    assert watch.step() is State.POLLING
    assert watch.hand.locked == {OID}
    assert watch.known() == {"doorkeeper": None}
    assert watch.step() is State.POLLING, "that poll began before the locks"
    assert watch.poll(covers=False)
    assert watch.step() is State.POLLING
    assert watch.poll()
    assert watch.step() is State.ASLEEP
    assert watch.known() == {"doorkeeper": frozenset({"First"})}


def test_bell_is_answered_in_its_sleep(watch: Watch) -> None:
    watch.fall_asleep()
    for _ in range(3):
        assert watch.ring() is State.ASLEEP
    assert watch.answers.answered == ["First"] * 3
    assert (watch.hand.locked, watch.poll()) == ({OID}, False)
    assert watch.protocol.rings == 3


def test_notifications_of_other_channels_are_skipped(watch: Watch) -> None:
    watch.fall_asleep()
    watch.ear.rung.append((CHANNEL, "another relay's"))
    assert watch.ring() is State.ASLEEP
    assert (watch.answers.answered, watch.protocol.rings) == (["First"], 1)


def test_self_test_leaves_no_notifications_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification_test, "transaction", lambda *_: contextlib.nullcontext(Mock()))
    monkeypatch.setattr(notification_test.secrets, "token_hex", lambda _: "own")
    session, waker = GrantingSession(), Waker()
    session.rung.append((CHANNEL, "own"))
    session.rung_later = [(CHANNEL, "another relay's")]
    notification_test.check_notifications(cast(AsyncConnection, session), Mock(), waker, threading.Event())
    assert session.take_notifications() == []
    session.close()


def test_bells_are_answered_while_it_falls_asleep(watch: Watch) -> None:
    watch.step()
    assert watch.ring() is State.POLLING
    assert watch.ring() is State.POLLING
    assert watch.answers.answered == ["First"] * 2


def test_only_leader_of_table_listens_to_its_bell(watch: Watch) -> None:
    watch.fall_asleep()
    assert watch.ear.listens == {"signalbus_16384"}
    watch.answer_the_other_too()
    watch.step()
    assert watch.ear.listens == {"signalbus_16384", "signalbus_16385"}


def test_producers_that_ring_too_often_are_silent_until_hardly_anything_is_found(watch: Watch) -> None:
    watch.answer_the_other_too()
    watch.fall_asleep()
    assert watch.ring(int(MOST_AT_ONCE)) is State.ASLEEP
    assert watch.answers.stepping == set()
    assert watch.ring() is State.ASLEEP
    assert watch.answers.stepping == {"First"}
    assert watch.hand.locked == {OTHER_OID}
    assert watch.ring(oid=OTHER_OID) is State.ASLEEP
    watch.answers.is_quiet = True
    assert watch.step() is State.QUEUEING
    assert watch.known() == {"doorkeeper": None}
    assert watch.answers.stepping == set()
    watch.fall_asleep()
    assert watch.hand.locked == {OID, OTHER_OID}


def test_bells_that_come_apart_silence_nobody(watch: Watch) -> None:
    watch.fall_asleep()
    for _ in range(10 * int(MOST_AT_ONCE)):
        watch.clock.now += 0.005
        watch.ring()
    assert (watch.answers.stepping, watch.hand.locked) == (set(), {OID})


def test_lock_of_paused_model_is_let_go_until_it_is_resumed(watch: Watch) -> None:
    watch.fall_asleep()
    watch.paused.add("First")
    assert watch.step() is State.ASLEEP
    assert watch.hand.locked == set()
    watch.paused.clear()
    assert watch.step() is State.QUEUEING
    watch.fall_asleep()
    assert watch.hand.locked == {OID}


def test_once_it_is_over_nobody_waits_for_it(watch: Watch) -> None:
    watch.fall_asleep()
    watch.ring(int(MOST_AT_ONCE) + 1)
    watch.protocol.close()
    assert (watch.known(), watch.answers.stepping) == ({}, set())


def test_table_won_while_it_queues_is_locked_before_last_poll(watch: Watch) -> None:
    assert watch.step() is State.QUEUEING
    watch.answer_the_other_too()
    assert watch.step() is State.QUEUEING
    assert watch.step() is State.POLLING
    assert watch.hand.locked == {OID, OTHER_OID}


def test_locks_are_requested_again_when_one_of_them_came_too_late(watch: Watch) -> None:
    watch.answer_the_other_too()
    watch.hand.not_granted = {OTHER_OID}
    assert watch.step() is State.QUEUEING
    assert watch.hand.locked == {OID}
    assert watch.step() is State.QUEUEING
    watch.hand.not_granted.clear()
    assert watch.step() is State.QUEUEING
    assert watch.step() is State.POLLING
    assert watch.hand.locked == {OID, OTHER_OID}
