"""A model of the burst: whatever happens in whatever order, no signal is lost and none is invented.

Hypothesis writes signals, runs bursts of several relays, stops them between any two steps, lets the broker answer in
every way, and takes the database's connections away. The database is real; the broker is a scripted peer, because it
has to store without answering, and to answer without storing, when it is told to.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from signalbus_core import BurstError
from signalbus_core.burst import failpoints
from signalbus_core.rabbitmq import Message, Publisher
from tests.support.amqp_peer import AmqpPeer, Published, Session
from tests.support.fuzzing import FACTOR
from tests.support.outbox_app import OutboxApp

#: What the broker does with a message.
ANSWERS = ("store and ack", "nack", "return", "store and drop", "drop", "store and say nothing")

#: Where a relay may be stopped; at other places it holds nothing that another one could meet.
STOPS = ("locked", "awaiting", "confirmed", "deleted")

TIMEOUT_SECONDS = 0.25


class GreenletExit(BaseException):
    """As gevent has it: the burst has to end."""


class Death(GreenletExit):
    """Ends a burst as the death of its process would: nothing after it is executed."""


class Outbox(OutboxApp):
    """An application, a broker that does as it is told, and what both have seen."""

    def __init__(self, database_url: str) -> None:
        self.peer = AmqpPeer(self.answer)
        super().__init__(database_url, engine={"pool_size": 8}, SIGNALBUS_RABBITMQ_URL=self.peer.url)
        self.number = self.rabbitmq_model(
            "Number", lambda number: Message("", "numbers", str(number.id)), signalbus_burst_count=4
        )
        self.publisher = Publisher(self.app, timeout_seconds=TIMEOUT_SECONDS)
        self.create()
        with self.app.app_context():
            self.engine = self.db.engine
        self.answers: list[str] = []
        self.stored: Counter[int] = Counter()

    def answer(self, session: Session, message: Published) -> None:
        what = self.answers.pop(0) if self.answers else ANSWERS[0]
        if what.startswith("store"):
            self.stored[int(message.body)] += 1
        if what == "store and ack":
            session.ack(message.tag)
        elif what == "nack":
            session.nack(message.tag)
        elif what == "return":
            session.give_back(message)
            session.ack(message.tag)
        elif what in ("store and drop", "drop"):
            session.drop()

    def send(self, limit: int) -> None:
        self.burst(self.number, limit=limit)

    def rows(self) -> set[int]:
        with self.engine.connect() as connection:
            return set(connection.scalars(sa.text("SELECT id FROM number")))

    def end_connections(self) -> None:
        """The database's side of every connection that a burst uses."""
        with self.engine.connect() as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
                )
            )

    def close(self) -> None:
        self.publisher.close()
        self.peer.close()
        super().close()


class StoppedBurst:
    """A burst in a thread of its own that waits at a place until it is let go."""

    def __init__(self, outbox: Outbox, place: str, limit: int, handlers: dict[int, Callable[[str], None]]) -> None:
        self._place = place
        self._reached, self._go = threading.Event(), threading.Event()
        self._dies = False
        self._handlers = handlers
        self._outbox = outbox
        self.thread = threading.Thread(target=self._run, args=(limit,))
        self.thread.start()
        while self.thread.is_alive() and not self._reached.wait(0.005):
            pass

    def _run(self, limit: int) -> None:
        self._handlers[threading.get_ident()] = self._stop_here
        try:
            self._outbox.send(limit)
        except (Death, BurstError, sa.exc.SQLAlchemyError):
            return
        finally:
            del self._handlers[threading.get_ident()]
            self._outbox.publisher.disconnect()

    def _stop_here(self, place: str) -> None:
        if place == self._place and not self._reached.is_set():
            self._reached.set()
            assert self._go.wait(30)
            if self._dies:
                raise Death

    def let_go(self, *, dies: bool) -> None:
        self._dies = dies
        self._go.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


class BurstModel(RuleBasedStateMachine):
    """The promise, as Hypothesis sees it."""

    outbox: Outbox

    @initialize()
    def begin(self) -> None:
        self.next_number = 1
        self.committed: set[int] = set()
        self.withdrawn: set[int] = set()
        self.interruptions = 0
        self.stopped: list[StoppedBurst] = []
        self.handlers: dict[int, Callable[[str], None]] = {}
        self.outbox.answers.clear()
        self.outbox.stored.clear()
        with self.outbox.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM number"))
        failpoints.switch_on(self.reach)

    def reach(self, place: str) -> None:
        handler = self.handlers.get(threading.get_ident())
        if handler is not None:
            handler(place)

    @rule(count=st.integers(1, 6), commits=st.booleans())
    def write(self, count: int, commits: bool) -> None:
        numbers = range(self.next_number, self.next_number + count)
        self.next_number += count
        with self.outbox.engine.connect() as connection:
            connection.execute(sa.text("INSERT INTO number (id) VALUES (:id)"), [{"id": n} for n in numbers])
            if commits:
                connection.commit()
                self.committed |= set(numbers)

    @rule(limit=st.integers(1, 4), answers=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4))
    def burst(self, limit: int, answers: list[str]) -> None:
        self._tell(answers)
        self._run(lambda: self.outbox.send(limit))

    @rule(place=st.sampled_from(failpoints.PLACES), limit=st.integers(1, 4))
    def burst_that_dies(self, place: str, limit: int) -> None:
        def die(reached: str) -> None:
            if reached == place:
                raise Death

        self.interruptions += 1
        self.handlers[threading.get_ident()] = die
        try:
            self._run(lambda: self.outbox.send(limit))
        finally:
            del self.handlers[threading.get_ident()]
            self.outbox.publisher.disconnect()

    @rule(place=st.sampled_from(failpoints.PLACES[1:-1]), limit=st.integers(1, 4))
    def burst_that_loses_its_database_connection(self, place: str, limit: int) -> None:
        def cut(reached: str) -> None:
            if reached == place:
                self.outbox.end_connections()

        self.interruptions += 1
        self.handlers[threading.get_ident()] = cut
        try:
            self._run(lambda: self.outbox.send(limit))
        finally:
            del self.handlers[threading.get_ident()]

    # No preconditions: whether a burst is stopped depends on time, and what Hypothesis draws may not.
    @rule(place=st.sampled_from(STOPS), limit=st.integers(1, 4))
    def burst_that_is_stopped(self, place: str, limit: int) -> None:
        if len(self.stopped) == 2:
            return
        burst = StoppedBurst(self.outbox, place, limit, self.handlers)
        if burst.thread.is_alive():
            self.stopped.append(burst)

    @rule(dies=st.booleans(), loses_connection=st.booleans())
    def stopped_burst_goes_on(self, dies: bool, loses_connection: bool) -> None:
        if not self.stopped:
            return
        if loses_connection:
            self.interruptions += len(self.stopped)
            self.outbox.end_connections()
        self.interruptions += dies
        self.stopped.pop(0).let_go(dies=dies)

    @rule()
    def application_withdraws_a_signal(self) -> None:
        with self.outbox.engine.begin() as connection:
            deleted = connection.scalars(
                sa.text(
                    "DELETE FROM number WHERE id IN"
                    " (SELECT id FROM number ORDER BY id DESC LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id"
                )
            )
            self.withdrawn |= set(deleted)

    @invariant()
    def nothing_is_lost(self) -> None:
        gone = self.committed - self.withdrawn - self.outbox.rows()
        lost = {number for number in gone if not self.outbox.stored[number]}
        assert not lost

    @invariant()
    def nothing_is_invented(self) -> None:
        assert set(+self.outbox.stored) <= self.committed

    @invariant()
    def nothing_is_repeated_without_a_reason(self) -> None:
        copies = max(self.outbox.stored.values(), default=0)
        assert copies <= 1 + self.interruptions

    def teardown(self) -> None:
        if not hasattr(self, "stopped"):
            return
        while self.stopped:
            self.stopped.pop().let_go(dies=True)
        failpoints.switch_on(None)
        # Healed, all that is left arrives.
        self.outbox.answers.clear()
        for _ in range(len(self.committed) + 1):
            self._run(lambda: self.outbox.send(4))
        assert self.outbox.rows() == set()
        self.nothing_is_lost()
        self.nothing_is_invented()

    def _tell(self, answers: list[str]) -> None:
        self.outbox.answers[:] = answers
        # What was stored and not confirmed is sent again.
        self.interruptions += sum(answer in ("store and drop", "store and say nothing", "drop") for answer in answers)

    def _run(self, burst: Callable[[], None]) -> None:
        try:
            burst()
        except (Death, BurstError, sa.exc.SQLAlchemyError):
            pass
        finally:
            self.outbox.answers.clear()


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    with _closing(Outbox(database_url)) as outbox:
        yield outbox


@contextmanager
def _closing(outbox: Outbox) -> Iterator[Outbox]:
    try:
        yield outbox
    finally:
        failpoints.switch_on(None)
        outbox.close()


def test_whatever_happens_nothing_is_lost_or_invented(
    outbox: Outbox,
) -> None:
    model: Any = type("Model", (BurstModel,), {"outbox": outbox})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        model,
        settings=settings(
            max_examples=20 * FACTOR,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
