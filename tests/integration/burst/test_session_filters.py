"""Filters of an application's session or engine (tenants, soft deletes) hold for bursts, whatever their size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import ORMExecuteState, with_loader_criteria

from signalbus_core.sql import lock_rows
from tests.support.outbox_app import OutboxApp

#: Outside of tests a cross product is a warning, and its rows are sent.
pytestmark = pytest.mark.filterwarnings("ignore:SELECT statement has a cartesian product")


class Outbox(OutboxApp):
    """An application with one model, whose signals it may hide from its session, or its engine."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.sent: list[int] = []
        self.note = self.model(
            "Note", lambda one: self.sent.append(one.id), body=sa.Column(sa.Text), signalbus_burst_count=10
        )
        self.create()

    def hide(self, how: str) -> None:
        """Hide the signals with the body ``hidden``."""
        note = self.note

        def add_where(state: ORMExecuteState) -> None:
            if state.is_select:
                state.statement = state.statement.where(note.body != "hidden")  # type: ignore[attr-defined]

        def add_criteria(state: ORMExecuteState) -> None:
            state.statement = state.statement.options(with_loader_criteria(note, note.body != "hidden"))

        def rewrite(_connection: object, statement: Any, params: Any, values: Any, _options: object) -> Any:
            if isinstance(statement, sa.Select) and note.__table__ in statement.get_final_froms():
                statement = statement.where(note.__table__.c.body != "hidden")
            return statement, params, values

        if how == "engine":
            with self.app.app_context():
                sa.event.listen(self.db.engine, "before_execute", rewrite, retval=True)
            return
        listeners: dict[str, Callable[[ORMExecuteState], None]] = {"where": add_where, "criteria": add_criteria}
        sa.event.listen(self.db.session, "do_orm_execute", listeners[how])


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    outbox.close()


@pytest.fixture(params=["where", "criteria", "engine"])
def hidden(request: pytest.FixtureRequest, outbox: Outbox) -> Outbox:
    outbox.hide(request.param)
    return outbox


def left(outbox: Outbox) -> list[int]:
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        return list(connection.execute(sa.text("SELECT id FROM note ORDER BY id")).scalars())


@pytest.mark.parametrize("others", [1, 3])
@pytest.mark.parametrize("limit", [1, 10])
def test_a_signal_hidden_by_the_application_is_not_sent(hidden: Outbox, others: int, limit: int) -> None:
    hidden.write(hidden.note, 1, body="hidden")
    hidden.write(hidden.note, *range(2, 2 + others), body="shown")
    for _ in range(others):
        result = hidden.burst(hidden.note, limit=limit)
        assert result.error is None
    assert hidden.sent == list(range(2, 2 + others))
    assert left(hidden) == [1]


def test_hidden_signals_take_no_place_in_a_burst(hidden: Outbox) -> None:
    hidden.write(hidden.note, *range(1, 8), body="hidden")
    hidden.write(hidden.note, *range(8, 13), body="shown")
    assert hidden.burst(hidden.note, limit=3).sent == 3
    assert hidden.sent == [8, 9, 10]


def test_flushmany_sends_what_the_application_shows(hidden: Outbox) -> None:
    hidden.write(hidden.note, 1, 2, body="hidden")
    hidden.write(hidden.note, 3, 4, 5, body="shown")
    with hidden.app.app_context():
        assert hidden.db.signalbus.flushmany() == 3
    assert sorted(hidden.sent) == [3, 4, 5]
    assert left(hidden) == [1, 2]


def test_a_filtered_burst_reads_no_more_than_its_bytes(hidden: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signalbus_core.burst.lock.MOST_BYTES", 2_500)
    hidden.write(hidden.note, 1, body="hidden")
    hidden.write(hidden.note, *range(2, 8), body="x" * 1_000)
    result: Any = hidden.burst(hidden.note, limit=10)
    assert result.is_cut
    assert 2 <= result.sent <= 3
    assert lock_rows.wide_columns(hidden.spec(hidden.note))
