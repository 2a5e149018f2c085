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
        #: The tables whose locks were waited for, in this order; a wait goes on, or times out.
        self.requested: list[set[int]] = []
        self.times_out = False
        self._waits_for = set[int]()
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
        self._waits_for = set()
        if "pg_advisory_lock(" in statement:
            self.requested.append(oids)
            self._waits_for = oids
        elif "pg_try_advisory_lock(" in statement:
            self.locked |= oids - self.not_granted
        elif "pg_advisory_unlock(" in statement:
            self.locked -= oids

    def advance(self) -> bool:
        if self._waits_for & self.not_granted:
            if not self.times_out:
                return False
            self._waits_for = set()
            raise LockNotAvailable
        self.locked |= self._waits_for
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

    def poll(self, *, without: Collection[str] = (), too_slow: Collection[str] = ()) -> set[str]:
        """Poll; return the models of which it was to cover every row."""
        to_cover = self.polls.begin().to_cover
        self.polls.end(to_cover - set(without) - set(too_slow), too_slow)
        return set(to_cover)

    def ring(self, times: int = 1, oid: int = OID) -> State:
        self.ear.rung += [(f"signalbus_{oid}", "")] * times
        return self.step()

    def answer_the_other_too(self) -> None:
        """Have it become the notifier of the other table as well, when it tries again."""
        self.ear.not_granted.clear()
        self.clock.now += TRY_EVERY_SECONDS

    def answers_for(self) -> set[str]:
        """The models for which it answers, as polls know."""
        return {"First", "Second"} - self.polls.unanswered(["First", "Second"])

    def is_awake(self) -> bool:
        """Whether the pauses between polls are short."""
        return bool(self.polls._awake)

    def fall_asleep(self) -> None:
        assert self.step() is State.POLLING
        assert self.poll()
        assert self.step() is State.ASLEEP


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.protocol.close()
    watch.ear.close()


def test_it_sleeps_after_a_poll_of_every_row_that_began_with_the_locks(watch: Watch) -> None:
    watch.polls.begin()
    assert watch.step() is State.POLLING
    assert watch.hand.locked == {OID}
    watch.polls.end(["First"])
    assert watch.step() is State.POLLING, "that poll began before the locks"
    assert (watch.answers_for(), watch.is_awake()) == (set(), True)
    assert watch.poll() == {"First"}
    assert watch.step() is State.ASLEEP
    assert (watch.answers_for(), watch.is_awake()) == ({"First"}, False)


def test_model_that_cannot_be_covered_delays_no_other(watch: Watch) -> None:
    watch.answer_the_other_too()
    assert watch.step() is State.POLLING
    assert watch.poll(without=["Second"]) == {"First", "Second"}
    assert watch.step() is State.POLLING
    assert (watch.answers_for(), watch.is_awake()) == ({"First"}, True)
    assert watch.poll(without=["Second"]) == {"Second"}, "polls of the others are not thorough for it"
    assert watch.poll() == {"Second"}
    assert watch.step() is State.ASLEEP


def test_model_whose_full_scan_times_out_is_not_scanned_so_again(watch: Watch) -> None:
    watch.answer_the_other_too()
    watch.step()
    watch.poll(too_slow=["Second"])
    assert watch.poll() == set()
    assert watch.step() is State.POLLING
    assert watch.answers_for() == {"First"}
    # Its next full scan comes when it is due.
    watch.polls.begin()
    watch.polls.end(["Second"])
    assert watch.step() is State.ASLEEP


def test_bell_is_answered_in_its_sleep(watch: Watch) -> None:
    watch.fall_asleep()
    for _ in range(3):
        assert watch.ring() is State.ASLEEP
    assert watch.answers.answered == ["First"] * 3
    assert (watch.hand.locked, watch.poll()) == ({OID}, set())
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
    watch.hand.not_granted = {OID}
    assert watch.ring() is State.QUEUEING
    assert watch.ring() is State.QUEUEING
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
    assert watch.step() is State.POLLING
    assert watch.answers_for() == {"Second"}
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
    watch.fall_asleep()
    assert watch.hand.locked == {OID}


def test_once_it_is_over_nobody_waits_for_it(watch: Watch) -> None:
    watch.fall_asleep()
    watch.ring(int(MOST_AT_ONCE) + 1)
    watch.protocol.close()
    assert (watch.answers_for(), watch.is_awake(), watch.answers.stepping) == (set(), False, set())


def test_table_won_while_it_waits_for_another_is_locked_next(watch: Watch) -> None:
    watch.hand.not_granted = {OID}
    assert watch.step() is State.QUEUEING
    watch.answer_the_other_too()
    assert watch.step() is State.QUEUEING
    watch.hand.times_out = True
    assert watch.step() is State.QUEUEING
    assert watch.hand.locked == {OTHER_OID}


def test_long_transaction_of_one_table_silences_no_other(watch: Watch) -> None:
    watch.answer_the_other_too()
    watch.hand.not_granted = {OID}
    assert watch.step() is State.QUEUEING
    assert watch.hand.locked == {OTHER_OID}
    assert watch.poll() == {"Second"}
    assert watch.step() is State.QUEUEING
    assert (watch.answers_for(), watch.is_awake()) == ({"Second"}, True)
    watch.hand.not_granted.clear()
    assert watch.step() is State.POLLING
    assert watch.hand.locked == {OID, OTHER_OID}
    assert watch.poll() == {"First"}
    assert watch.step() is State.ASLEEP


def test_locks_are_waited_for_in_rotation(watch: Watch) -> None:
    watch.answer_the_other_too()
    watch.hand.not_granted, watch.hand.times_out = {OID, OTHER_OID}, True
    for _ in range(4):
        assert watch.step() is State.QUEUEING
    assert watch.hand.requested == [{OID}, {OTHER_OID}] * 2


def test_table_that_became_quiet_meanwhile_is_locked_when_wait_times_out(watch: Watch) -> None:
    watch.answer_the_other_too()
    watch.hand.not_granted = {OID}
    watch.step()
    watch.ring(int(MOST_AT_ONCE) + 1, OTHER_OID)
    watch.hand.times_out = True
    watch.step()
    assert watch.hand.locked == set(), "it rings too often"
    watch.hand.times_out = False
    watch.answers.is_quiet = True
    watch.step()
    watch.hand.times_out = True
    watch.step()
    assert (watch.hand.locked, watch.answers.stepping) == ({OTHER_OID}, set())
