"""Order by key, however writers overlap and at whatever step relays fail, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from signalbus_core import BurstError, PartialDeliveryError
from signalbus_core.lowlevel import Choice, Ring
from signalbus_core.testing import assert_order
from tests.integration.burst.test_order import REFUSED, Orders
from tests.support.interrupted_bursts import STOPS, Interrupter

WRITERS = st.integers(0, 2)
RELAYS = st.integers(0, 1)
PLACES = st.sampled_from(STOPS)


def test_first_arrivals_are_never_inverted_and_none_is_lost(database_url: str) -> None:
    app = Orders(database_url)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Interleaving(app),
        settings=settings(
            max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    app.close()


class Interleaving(RuleBasedStateMachine):
    """Three writers, and two relays whose sends may fail, and which may be stopped or killed at any step."""

    def __init__(self, app: Orders) -> None:
        super().__init__()
        self.app = app
        self.writers = [app.connection() for _ in range(3)]
        self.open: list[list[tuple[int, str]]] = [[], [], []]
        self.committed: list[tuple[int, str]] = []
        self.arrived: list[tuple[str, int]] = []
        self.rings = [Ring(), Ring()]
        self.number = 0
        self.outcome: Callable[[int], bool] = lambda _number: True
        self.cut_after: int | None = None
        self.interrupter = Interrupter(BurstError, sa.exc.SQLAlchemyError)
        app.execute("TRUNCATE changed")
        machine = self

        def send_many(cls: Any, instances: list[Any]) -> None:
            delivered: list[Any] = []
            failed: list[Any] = []
            for one in instances:
                if machine.cut_after is not None and len(machine.arrived) >= machine.cut_after:
                    raise ConnectionResetError("the broker is away")
                if machine.outcome(one.id):
                    machine.arrived.append((one.account, one.id))
                    delivered.append(one)
                else:
                    failed.append((one, REFUSED))
            if failed:
                raise PartialDeliveryError(delivered, failed)

        app.changed.send_signalbus_messages = classmethod(send_many)
        app.changed.send_signalbus_message = lambda self: send_many(type(self), [self])
        app._specs.clear()

    @rule(writer=WRITERS, account=st.sampled_from("abc"))
    def insert(self, writer: int, account: str) -> None:
        self.number += 1
        row = {"id": self.number * (-1) ** self.number, "account": account}
        connection = self.writers[writer]
        connection.execute(sa.text("SET LOCAL lock_timeout = '20ms'"))
        try:
            connection.execute(sa.insert(self.app.changed), [row])
        except sa.exc.OperationalError:
            # Another writer has the key: this one gives up.
            connection.rollback()
            self.open[writer] = []
        else:
            self.open[writer].append((row["id"], account))

    @rule(writer=WRITERS)
    def commit(self, writer: int) -> None:
        self.writers[writer].commit()
        self.committed += self.open[writer]
        self.open[writer] = []

    @rule(writer=WRITERS)
    def roll_back(self, writer: int) -> None:
        self.writers[writer].rollback()
        self.open[writer] = []

    @rule(relay=RELAYS, limit=st.sampled_from([1, 2, 5, 50]), bad=st.integers(0, 6))
    def burst_with_refusals(self, relay: int, limit: int, bad: int) -> None:
        self.outcome = lambda number: bad == 0 or number % 7 != bad
        self._burst(relay, limit)
        self.outcome = lambda _number: True

    @rule(relay=RELAYS, limit=st.sampled_from([2, 50]), more=st.integers(0, 4))
    def burst_with_outage(self, relay: int, limit: int, more: int) -> None:
        self.cut_after = len(self.arrived) + more
        self._burst(relay, limit)
        self.cut_after = None

    @rule(relay=RELAYS, place=PLACES, limit=st.sampled_from([2, 50]))
    def burst_that_is_killed(self, relay: int, place: str, limit: int) -> None:
        self.interrupter.kill(lambda: self._burst(relay, limit), place)

    # No preconditions: whether a burst is stopped depends on time, and what Hypothesis draws may not.
    @rule(relay=RELAYS, place=PLACES, limit=st.sampled_from([2, 50]))
    def burst_that_is_stopped(self, relay: int, place: str, limit: int) -> None:
        self.interrupter.stop(lambda: self._burst(relay, limit), place)

    @rule(dies=st.booleans())
    def stopped_burst_goes_on(self, dies: bool) -> None:
        self.interrupter.go_on(dies=dies)

    def _burst(self, relay: int, limit: int | None = None) -> int:
        return self.app.burst(self.app.changed, limit=limit, choice=Choice(ring=self.rings[relay])).selected

    def teardown(self) -> None:
        self.interrupter.close()
        for writer in range(3):
            self.commit(writer)
        while self._burst(0):
            pass
        for one in self.writers:
            one.close()
        places = {number: place for place, (number, _) in enumerate(self.committed)}
        assert_order(self.arrived, key=lambda one: one[0], position=lambda one: places[one[1]])
        assert {number for _, number in self.arrived} == set(places)
