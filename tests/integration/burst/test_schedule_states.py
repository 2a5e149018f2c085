"""Scheduled signals that are written, moved and cancelled while relays fail at any step, on a real PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from signalbus_core import BurstError, ScheduledSignal
from tests.support.interrupted_bursts import STOPS, Interrupter
from tests.support.outbox_app import OutboxApp

#: In how many hours a signal is due; None: it has no time.
HOURS = st.sampled_from([None, -1, 1, 2, 5])
PLACES = st.sampled_from(STOPS)

CHANGED = "UPDATE reminder SET signalbus_send_after = signalbus_send_after - interval '1 hour'"


class Reminders(OutboxApp):
    """A model with scheduled signals; :attr:`machine` hears of what is sent."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.machine: Any = None
        self.reminder = self._add(
            "Reminder",
            (ScheduledSignal, self.db.Model),
            {
                "id": sa.Column(sa.BigInteger, primary_key=True, autoincrement=False),
                "signalbus_burst_count": 4,
                "send_signalbus_message": lambda signal: self.machine.sent(signal.id),
            },
        )
        self.create()


def test_none_is_early_forgotten_or_sent_after_it_was_cancelled(database_url: str) -> None:
    app = Reminders(database_url)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Schedule(app),
        settings=settings(
            max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    app.close()


class Schedule(RuleBasedStateMachine):
    """An application, and relays. Time passes by the hour: all signals that are there are due an hour sooner."""

    def __init__(self, app: Reminders) -> None:
        super().__init__()
        self.app = app
        app.machine = self
        self.hour = 0
        #: At which hour each committed signal is due.
        self.due: dict[int, int] = {}
        self.cancelled: set[int] = set()
        self.arrived: set[int] = set()
        self.wrong: list[str] = []
        self.number = 0
        self.interrupter = Interrupter(BurstError, sa.exc.SQLAlchemyError)
        app.execute("TRUNCATE reminder")

    def sent(self, number: int) -> None:
        # What is raised here is an error of the send method, and nothing that ends the test.
        if self.due[number] > self.hour:
            self.wrong.append(f"{number} is early")
        if number in self.cancelled:
            self.wrong.append(f"{number} was cancelled")
        self.arrived.add(number)

    @rule(hours=HOURS, is_kept=st.booleans())
    def write(self, hours: int | None, is_kept: bool) -> None:
        # In no order of time.
        self.number += 1
        number = self.number * (-1) ** self.number
        with self.app.app.app_context():
            session = self.app.db.session
            session.add(self.app.reminder(id=number, signalbus_send_after=_moment(hours)))
            session.flush()
            if is_kept:
                self.due[number] = self.hour + (hours or 0)
                session.commit()

    @rule(hours=HOURS)
    def move(self, hours: int | None) -> None:
        """Move the signal that is due last, unless a burst has it."""
        with self.app.app.app_context(), self.app.db.engine.begin() as connection:
            table = self.app.reminder.__table__
            last = sa.select(table.c.id).order_by(table.c.signalbus_send_after.desc().nulls_last()).limit(1)
            number = connection.scalar(last.with_for_update(skip_locked=True))
            if number is not None:
                self.due[number] = self.hour + (hours or 0)
                values = {"signalbus_send_after": _moment(hours)}
                connection.execute(table.update().where(table.c.id == number).values(values))

    @invariant()
    def nothing_is_early_or_cancelled(self) -> None:
        assert not self.wrong

    @rule(place=st.integers(0, 4), is_kept=st.booleans())
    def cancel(self, place: int, is_kept: bool) -> None:
        with self.app.app.app_context():
            session = self.app.db.session
            some = sa.select(self.app.reminder).order_by(self.app.reminder.id).offset(place).limit(1)
            signal = session.scalars(some).first()
            number = None if signal is None else signal.id
            if signal is None or not self.app.db.signalbus.cancel(signal) or not is_kept:
                session.rollback()
            else:
                self.cancelled.add(number)
                session.commit()

    @rule()
    def an_hour_passes(self) -> None:
        # A burst under way has locked what it sends, and has found it due already.
        with self.app.app.app_context(), self.app.db.engine.begin() as connection:
            free = "id IN (SELECT id FROM reminder WHERE signalbus_send_after > now() FOR UPDATE SKIP LOCKED)"
            connection.execute(sa.text(f"{CHANGED} WHERE {free}"))
        self.hour += 1

    @rule(limit=st.integers(1, 4))
    def burst(self, limit: int) -> None:
        self._burst(limit)

    @rule(limit=st.integers(1, 4), place=PLACES)
    def burst_that_is_killed(self, limit: int, place: str) -> None:
        self.interrupter.kill(lambda: self._burst(limit), place)

    # No preconditions: whether a burst is stopped depends on time, and what Hypothesis draws may not.
    @rule(limit=st.integers(1, 4), place=PLACES)
    def burst_that_is_stopped(self, limit: int, place: str) -> None:
        self.interrupter.stop(lambda: self._burst(limit), place)

    @rule(dies=st.booleans())
    def stopped_burst_goes_on(self, dies: bool) -> None:
        self.interrupter.go_on(dies=dies)

    @rule()
    def all_that_is_due_is_sent(self) -> None:
        self.interrupter.close()
        self.interrupter = Interrupter(BurstError, sa.exc.SQLAlchemyError)
        while self._burst(4):
            pass
        due = {number for number, hour in self.due.items() if hour <= self.hour}
        assert due - self.cancelled <= self.arrived

    def teardown(self) -> None:
        for _ in range(6):
            self.an_hour_passes()
        self.all_that_is_due_is_sent()
        self.interrupter.close()
        assert self.app.left(self.app.reminder) == []
        assert self.due.keys() - self.cancelled <= self.arrived
        assert not self.wrong

    def _burst(self, limit: int) -> int:
        return self.app.burst(self.app.reminder, limit=limit).selected


def _moment(hours: int | None) -> datetime | None:
    return None if hours is None else datetime.now(timezone.utc) + timedelta(hours=hours)
