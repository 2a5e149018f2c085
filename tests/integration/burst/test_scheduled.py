"""Scheduled signals in bursts: none is sent early, and those of the future cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext

from relay.application.databases import Databases
from relay.application.load import LoadedApp
from relay.checks.tables import check_table
from relay.explain.gather import gather
from relay.explain.render import explanation_of
from relay.operations.backlog import Backlogs
from relay.worker.model_state import ModelState
from signalbus_core import ScheduledSignal, SignalModelError, scheduled_sql
from signalbus_core.burst.scheduled import take
from signalbus_core.lowlevel import BurstResult, find_work_and_measure, measure
from signalbus_core.rabbitmq import outbox_model
from signalbus_core.sql.selection import EVERYTHING
from signalbus_core.testing import send_until_empty, time_passes
from tests.support.outbox_app import OutboxApp

#: When the tests are collected, which may be long before they run.
NOW = datetime.now(timezone.utc)
PAST, FUTURE = NOW - timedelta(days=1), NOW + timedelta(days=1)


def now() -> datetime:
    return datetime.now(timezone.utc)


class Outbox(OutboxApp):
    """A model with scheduled signals, and what was sent of it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent: list[int] = []
        self.reminder = self._add(
            "Reminder",
            (ScheduledSignal, self.db.Model),
            {
                "id": sa.Column(sa.BigInteger, primary_key=True, autoincrement=False),
                "signalbus_burst_count": 10,
                "send_signalbus_message": lambda signal: self.sent.append(signal.id),
            },
        )
        self.create()

    def schedule(self, *ids: int, at: datetime | None) -> None:
        self.write(self.reminder, *ids, signalbus_send_after=at)

    def flush(self) -> int:
        with self.app.app_context():
            return self.db.signalbus.flushmany()

    def explain(self, statement: str, values: Any = None) -> int:
        """How many pages a statement reads."""
        with self.app.app_context(), self.db.engine.connect() as connection:
            connection.exec_driver_sql("SET enable_sort = off; SET enable_bitmapscan = off")
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values).scalar()
            connection.rollback()
        node: Any = plan
        return int(node[0]["Plan"]["Shared Hit Blocks"] + node[0]["Plan"]["Shared Read Blocks"])


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    outbox.close()


@pytest.fixture
def sqlite() -> Iterator[Outbox]:
    outbox = Outbox("sqlite://")
    yield outbox
    outbox.close()


def test_a_signal_is_sent_once_its_time_has_come(outbox: Outbox) -> None:
    outbox.schedule(1, at=FUTURE)
    outbox.schedule(2, at=PAST)
    outbox.schedule(3, at=None)
    assert outbox.flush() == 2
    assert (sorted(outbox.sent), outbox.left(outbox.reminder)) == ([2, 3], [1])


@pytest.mark.parametrize("name", ["outbox", "sqlite"])
def test_time_passes_in_tests_without_waiting(name: str, request: pytest.FixtureRequest) -> None:
    outbox: Outbox = request.getfixturevalue(name)
    outbox.schedule(1, at=now() + timedelta(hours=1))
    outbox.schedule(2, at=now() + timedelta(hours=3))
    assert send_until_empty(outbox.app) == 0
    assert time_passes(outbox.app, timedelta(hours=2)) == 2
    assert send_until_empty(outbox.app) == 1
    assert outbox.left(outbox.reminder) == [2]


@pytest.mark.parametrize("rate", [0, -1, True, "5", float("inf"), float("nan")])
def test_a_highest_rate_that_is_none_is_refused(outbox: Outbox, rate: Any) -> None:
    model = outbox.model("Paced", signalbus_max_rate=rate)
    with pytest.raises(SignalModelError, match=r"Paced\.signalbus_max_rate is"):
        outbox.spec(model)


def test_the_highest_rate_paces_a_models_bursts(outbox: Outbox) -> None:
    state = ModelState(outbox.spec(outbox.model("Slow", signalbus_max_rate=50, signalbus_burst_count=500)))
    plan = state.plan(1000.0)
    assert plan.limit == 5, "a tenth of a second"
    decision = state.finished(plan, BurstResult(selected=5, sent=5, keys=((1,),) * 5), 1000.0)
    assert (decision.more, decision.wait_seconds) == (False, pytest.approx(0.1))
    partly = state.finished(state.plan(1000.1), BurstResult(selected=2, sent=2, keys=((1,),) * 2), 1000.1)
    assert (partly.more, partly.wait_seconds) == (False, 0)


def test_alembic_finds_no_difference_and_writes_plain_types(outbox: Outbox) -> None:
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, outbox.db.metadata) == []
        outbox.db.metadata.tables["reminder"].drop(connection)
        script = produce_migrations(context, outbox.db.metadata)
        text = render_python_code(script.upgrade_ops)
        connection.rollback()
    assert "sa.Column('signalbus_send_after', sa.DateTime(timezone=True), nullable=True)" in text
    assert "['signalbus_send_after', 'id']" in text


def test_check_finds_the_missing_index(outbox: Outbox) -> None:
    def found() -> set[str]:
        with outbox.app.app_context(), outbox.db.engine.connect() as connection:
            return {finding.code for finding in check_table(connection, outbox.spec(outbox.reminder))}

    assert "index-schedule" not in found()
    outbox.execute("DROP INDEX ix_reminder_signalbus_send_after")
    assert "index-schedule" in found()
    outbox.execute(*scheduled_sql(outbox.reminder))
    assert "index-schedule" not in found()


def test_in_sqlite_as_well(sqlite: Outbox) -> None:
    outbox = sqlite
    in_other_zone = timezone(timedelta(hours=14))
    outbox.schedule(1, at=(now() + timedelta(minutes=5)).astimezone(in_other_zone))
    outbox.schedule(2, at=(now() - timedelta(seconds=1)).astimezone(in_other_zone))
    outbox.schedule(3, at=None)
    assert outbox.flush() == 2
    assert (sorted(outbox.sent), outbox.left(outbox.reminder)) == ([2, 3], [1])


def test_a_burst_says_when_the_next_signal_is_due(outbox: Outbox) -> None:
    outbox.schedule(1, at=now() + timedelta(hours=2))
    outbox.schedule(2, at=now() + timedelta(hours=1))
    result = outbox.burst(outbox.reminder)
    assert result.selected == 0
    assert result.next_seconds == pytest.approx(3600, abs=60)


def test_nothing_is_next_where_none_has_a_time_that_comes(outbox: Outbox) -> None:
    outbox.schedule(1, at=None)
    outbox.execute("INSERT INTO reminder (id, signalbus_send_after) VALUES (2, 'infinity')")
    result = outbox.burst(outbox.reminder)
    assert (result.sent, result.next_seconds) == (1, None)


def test_neither_part_keeps_the_other_waiting(outbox: Outbox) -> None:
    outbox.schedule(*range(1, 41), at=PAST)
    outbox.schedule(*range(41, 81), at=None)
    result: Any = outbox.burst(outbox.reminder)
    assert sorted(outbox.sent) == [*range(1, 6), *range(41, 46)]
    assert result.selected == 10
    assert outbox.flush() == 70


@pytest.mark.parametrize("toss", [0, 1])
@pytest.mark.parametrize("times", [(PAST, None), (None, PAST)])
def test_a_burst_of_one_takes_either(outbox: Outbox, toss: int, times: tuple[datetime | None, ...]) -> None:
    for number, at in enumerate(times):
        outbox.schedule(number, at=at)
    spec = outbox.spec(outbox.reminder)
    with outbox.app.app_context():
        taken = take(outbox.db.session(), spec, 1, EVERYTHING, 1_000_000, {}, lambda: toss)
    assert [row.key for _, row in taken.loaded] == [(times.index(None if toss else PAST),)]
    assert taken.lowest == ((times.index(None),) if toss else None)


@pytest.mark.parametrize("toss", [0, 1])
def test_a_due_signal_locked_elsewhere_holds_up_no_burst_of_one(
    outbox: Outbox, toss: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.getrandbits", lambda _: toss)
    outbox.reminder.signalbus_burst_count = 1
    outbox.schedule(1, at=PAST)
    outbox.schedule(2, 3, 4, at=None)
    with outbox.app.app_context(), outbox.db.engine.begin() as connection:
        connection.exec_driver_sql("SELECT FROM reminder WHERE id = 1 FOR UPDATE")
        assert outbox.flush() == 3
    assert outbox.left(outbox.reminder) == [1]


@pytest.mark.parametrize("toss", [0, 1])
def test_a_due_signal_that_fails_holds_up_no_burst_of_one(
    outbox: Outbox, toss: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(signal: Any) -> None:
        if signal.id == 1:
            raise ValueError("bad")
        outbox.sent.append(signal.id)

    monkeypatch.setattr("random.getrandbits", lambda _: toss)
    outbox.reminder.signalbus_burst_count = 1
    outbox.reminder.send_signalbus_message = send
    outbox.schedule(1, at=PAST)
    outbox.schedule(2, 3, 4, at=None)
    with pytest.raises(ValueError, match="bad"):
        outbox.flush()
    assert outbox.left(outbox.reminder) == [1]


@pytest.mark.parametrize("moment", [NOW.replace(tzinfo=None), "2030-01-01", 5])
def test_a_time_without_a_zone_is_refused(outbox: Outbox, moment: Any) -> None:
    with pytest.raises(sa.exc.StatementError, match=r"signalbus_send_after is .*time zone"):
        outbox.schedule(1, at=moment)


def test_a_column_of_another_type_is_refused(outbox: Outbox) -> None:
    members = {"signalbus_send_after": sa.Column(sa.DateTime)}
    model = outbox.model("Local", **members)
    with pytest.raises(SignalModelError, match=r"Local.signalbus_send_after is of type DateTime\(\)"):
        outbox.spec(model)


def test_a_cancelled_signal_is_never_sent(outbox: Outbox) -> None:
    outbox.schedule(1, 2, at=PAST)
    with outbox.app.app_context():
        session, bus = outbox.db.session, outbox.db.signalbus
        signal = session.get(outbox.reminder, 1)
        assert bus.cancel(signal)
        assert signal not in session
        session.rollback()
        assert bus.cancel(session.get(outbox.reminder, 1))
        session.commit()
        assert not bus.cancel(signal)
    assert outbox.flush() == 1
    assert outbox.sent == [2]


def test_cancel_comes_too_late_while_the_signal_is_being_sent_and_does_not_wait(outbox: Outbox) -> None:
    outbox.schedule(1, at=PAST)
    cancelled: list[bool] = []

    def send(signal: Any) -> None:
        with outbox.app.app_context():
            cancelled.append(outbox.db.signalbus.cancel(outbox.db.session.get(outbox.reminder, 1)))

    outbox.reminder.send_signalbus_message = send
    assert outbox.flush() == 1
    assert cancelled == [False]


def test_what_was_never_written_cannot_be_cancelled(outbox: Outbox) -> None:
    with outbox.app.app_context():
        with pytest.raises(SignalModelError, match="was never written"):
            outbox.db.signalbus.cancel(outbox.reminder(id=1))
        with pytest.raises(SignalModelError, match="is not a signal model"):
            outbox.db.signalbus.cancel(5)
        unflushed = outbox.reminder(id=2)
        outbox.db.session.add(unflushed)
        assert outbox.db.signalbus.cancel(unflushed)
        outbox.db.session.commit()
    assert outbox.left(outbox.reminder) == []


def test_a_signal_moved_while_it_was_chosen_is_not_sent(outbox: Outbox) -> None:
    outbox.schedule(1, at=PAST)
    outbox.execute("UPDATE reminder SET signalbus_send_after = now() + interval '1 hour'")
    assert outbox.flush() == 0
    outbox.execute("UPDATE reminder SET signalbus_send_after = now()")
    assert outbox.flush() == 1


@pytest.mark.parametrize("moment", ["-infinity", "4000-01-01 BC", "0001-01-01 00:00+14", "now"])
def test_any_time_in_the_past_is_due(outbox: Outbox, moment: str) -> None:
    outbox.execute(f"INSERT INTO reminder (id, signalbus_send_after) VALUES (1, '{moment}')")
    outbox.schedule(2, at=PAST)
    assert outbox.burst(outbox.reminder).selected == 2


def test_no_far_time_fails_a_poll_or_a_burst(outbox: Outbox) -> None:
    outbox.execute("INSERT INTO reminder (id, signalbus_send_after) VALUES (1, '294276-12-31 23:59:59+00')")
    spec = outbox.spec(outbox.reminder)
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        [(work, measurement)] = find_work_and_measure(connection, [spec], {}, 100)
    assert not work.pending
    assert (work.next_seconds or 0) > 1e9
    assert (measurement.backlog, measurement.scheduled) == (0, 1)
    assert outbox.burst(outbox.reminder).selected == 0


def test_the_future_is_no_backlog_and_a_due_signal_is_as_old_as_its_time(outbox: Outbox) -> None:
    outbox.schedule(*range(1, 8), at=FUTURE)
    outbox.schedule(8, 9, at=now() - timedelta(minutes=10))
    outbox.schedule(10, at=None)
    with outbox.app.app_context():
        [measured] = Backlogs(Databases(LoadedApp(outbox.app, outbox.db.signalbus))).measure()
        assert outbox.db.signalbus.pending() == {outbox.reminder: 3}
        assert outbox.db.signalbus.scheduled() == {outbox.reminder: 7}
        with outbox.db.engine.connect() as connection:
            [found] = measure(connection, [outbox.spec(outbox.reminder)], 5)
    assert (measured.signals, measured.scheduled, measured.is_exact) == (3, 7, True)
    assert (found.backlog, found.scheduled) == (3, 5)
    assert found.age_seconds == pytest.approx(600, abs=60)


@pytest.mark.parametrize("moment", ["2100-01-01", "infinity", "20000-01-01"])
def test_explain_tells_when_a_signal_is_due(outbox: Outbox, moment: str) -> None:
    outbox.execute(f"INSERT INTO reminder (id, signalbus_send_after) VALUES (1, '{moment} 00:00Z'::timestamptz)")
    outbox.schedule(2, at=PAST)
    databases = Databases(LoadedApp(outbox.app, outbox.db.signalbus))
    with outbox.app.app_context():
        (facts, _), (due, _) = (gather(databases, outbox.spec(outbox.reminder), key) for key in ("1", "2"))
    told = explanation_of(facts)
    assert (told.state, explanation_of(due).state) == ("scheduled", "pending")
    when = "a time that never comes" if moment == "infinity" else f"not sent before {moment}T00:00:00Z, "
    assert when in told.sentences[0]


def test_the_latency_of_a_signal_begins_when_it_is_due(database_url: str) -> None:
    app = OutboxApp(database_url)
    outbox = outbox_model(app.db, "later", scheduled=True)
    instances: Any = type(
        "Loaded",
        (ScheduledSignal, app.db.Model),
        {
            "id": sa.Column(sa.Integer, primary_key=True),
            "created_at": sa.Column(sa.DateTime(timezone=True)),
            "send_signalbus_message": lambda self: None,
        },
    )
    with app.app.app_context():
        app.db.create_all()
        long_ago, due = now() - timedelta(days=30), now() - timedelta(seconds=1)
        for model, values in ((outbox, {"body_text": "1"}), (instances, {"id": 1})):
            app.db.session.add(model(created_at=long_ago, signalbus_send_after=due, **values))
        app.db.session.commit()
        spec = app.spec(outbox)
        loaded = take(app.db.session(), spec, 1, EVERYTHING, 1_000_000, {}).loaded[0][0]
        assert spec.row_sender is not None
        assert spec.moments([loaded]) == (due,)
        assert app.burst(instances).written_at == (due,)
    app.close()


def test_future_signals_cost_a_burst_nothing(outbox: Outbox) -> None:
    statements: list[tuple[str, Any]] = []
    with outbox.app.app_context():
        sa.event.listen(
            outbox.db.engine,
            "before_cursor_execute",
            lambda _c, _cursor, statement, values, *_: statements.append((statement, values)),
        )
    outbox.execute(
        "INSERT INTO reminder (id, signalbus_send_after)"
        " SELECT n, now() + n * interval '1 minute' FROM generate_series(1, 20000) n",
    )
    outbox.schedule(20001, at=None)
    outbox.schedule(20002, at=PAST)
    statements.clear()
    assert outbox.flush() == 2
    read = [one for one in statements if "FROM reminder" in one[0] and "SELECT" in one[0]]
    pages = [
        outbox.explain(statement.rpartition("SET LOCAL")[2].partition(";")[2] or statement, values)
        for statement, values in read
    ]
    assert len(pages) >= 3
    assert max(pages) < 30
