"""The burst: lock, send, delete, commit, against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import signal as posix_signals
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Session

from signalbus_core import BurstError, Outcome, OutcomeKind, PartialDeliveryError, SignalBus
from signalbus_core.lowlevel import BurstLimits, BurstResult, Choice, send_burst
from signalbus_core.model.sending.progress import report_progress
from tests.support.clock import Clock
from tests.support.outbox_app import OutboxApp

REFUSED = Outcome(OutcomeKind.REFUSED, "no route", cause="returned")


class Outbox:
    """An application with one signal model, whose send method each test chooses."""

    def __init__(self, database_url: str) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = SQLAlchemy(self.app)
        self.sender: Callable[[list[Any]], object] = self.sent_signals
        self.sent: list[int] = []
        outbox = self

        class Order(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)
            note = db.Column(db.Text)
            secret = db.deferred(db.Column(db.Text))
            signalbus_burst_count = 10

            def send_signalbus_message(self) -> None:
                outbox.sender([self])

            @classmethod
            def send_signalbus_messages(cls, signals: list[Any]) -> None:
                outbox.sender(signals)

        class Note(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)

        self.model: Any = Order
        self.note: Any = Note
        with self.app.app_context():
            db.create_all()

    def sent_signals(self, signals: list[Any]) -> None:
        self.sent += [signal.id for signal in signals]

    def write(self, *ids: int) -> None:
        with self.app.app_context():
            self.db.session.add_all([self.model(id=number, note="n", secret="s") for number in ids])
            self.db.session.commit()

    def burst(self, **arguments: Any) -> BurstResult:
        with self.app.app_context():
            [spec] = SignalBus(self.db).specs([self.model])
            return send_burst(self.db.session(), spec, **arguments)

    def left(self, model: Any = None) -> list[int]:
        with self.app.app_context():
            return list(self.db.session.scalars(sa.select((model or self.model).id).order_by("id")))

    def execute(self, statement: str) -> None:
        with self.app.app_context(), self.db.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def transaction(self) -> sa.Connection:
        with self.app.app_context():
            return self.db.engine.connect()


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    with outbox.app.app_context():
        outbox.db.engine.dispose()


def test_sent_signals_are_deleted_lowest_keys_first(outbox: Outbox) -> None:
    outbox.write(3, 1, 2)
    result = outbox.burst(limit=2)
    assert outbox.sent == [1, 2]
    assert outbox.left() == [3]
    assert (result.selected, result.sent, result.failed, result.error) == (2, 2, (), None)


def test_a_burst_takes_no_more_than_the_burst_count(outbox: Outbox) -> None:
    outbox.write(*range(15))
    assert outbox.burst().sent == 10


def test_an_empty_table_sends_nothing(outbox: Outbox) -> None:
    assert outbox.burst() == BurstResult(selected=0, lock_seconds=pytest.approx(0, abs=30))
    assert outbox.sent == []


def test_uncommitted_signals_are_not_sent(outbox: Outbox) -> None:
    with outbox.transaction() as connection:
        connection.execute(sa.text('INSERT INTO "order" (id) VALUES (1)'))
        assert outbox.burst().selected == 0


def test_signals_locked_by_another_relay_are_left_to_it(outbox: Outbox) -> None:
    outbox.write(1, 2)
    with outbox.transaction() as connection:
        connection.execute(sa.text('SELECT FROM "order" WHERE id = 1 FOR UPDATE'))
        assert outbox.burst().sent == 1
    assert outbox.sent == [2]
    assert outbox.left() == [1]


def test_two_bursts_at_once_never_send_the_same_signal(outbox: Outbox) -> None:
    outbox.write(*range(20))
    both_locked = threading.Barrier(2, timeout=20)
    lock = threading.Lock()

    def sender(signals: list[Any]) -> None:
        both_locked.wait()
        with lock:
            outbox.sent_signals(signals)

    outbox.sender = sender
    threads = [threading.Thread(target=outbox.burst) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outbox.sent) == list(range(20))
    assert outbox.left() == []


def test_a_send_method_that_raises_leaves_every_signal(outbox: Outbox) -> None:
    outbox.write(1, 2)

    def sender(signals: list[Any]) -> None:
        raise ValueError("broker gone")

    outbox.sender = sender
    result = outbox.burst()
    assert outbox.left() == [1, 2]
    assert (result.selected, result.sent, result.failed) == (2, 0, ())
    assert isinstance(result.error, ValueError)


def test_a_single_signal_that_fails_is_named_with_its_reason(outbox: Outbox) -> None:
    outbox.write(7)

    def sender(signals: list[Any]) -> None:
        raise ValueError("bad")

    outbox.sender = sender
    [failed] = outbox.burst().failed
    assert failed.key == (7,)
    assert (failed.outcome.cause, failed.outcome.reason) == ("error", "ValueError: bad")


def test_exactly_the_delivered_of_partial_delivery_are_deleted(outbox: Outbox) -> None:
    outbox.write(1, 2, 3, 4)

    def sender(signals: list[Any]) -> None:
        raise PartialDeliveryError(delivered=[signals[0], signals[2]], failed=[(signals[1], REFUSED)])

    outbox.sender = sender
    result = outbox.burst()
    assert outbox.left() == [2, 4]
    assert result.sent == 2
    assert [(failed.key, failed.outcome) for failed in result.failed] == [((2,), REFUSED)]


def test_a_signal_reported_as_delivered_and_failed_stays(outbox: Outbox) -> None:
    outbox.write(1, 2)

    def sender(signals: list[Any]) -> None:
        raise PartialDeliveryError(delivered=signals, failed=[(signals[0], REFUSED)])

    outbox.sender = sender
    outbox.burst()
    assert outbox.left() == [1]


def test_reported_signals_of_another_burst_are_not_deleted(outbox: Outbox) -> None:
    outbox.write(1, 2)

    def sender(signals: list[Any]) -> None:
        raise PartialDeliveryError(delivered=[*signals, outbox.model(id=2)])

    outbox.sender = sender
    assert outbox.burst(limit=1).sent == 1
    assert outbox.left() == [2]


@pytest.mark.parametrize("number", [1, 3])
def test_a_sender_that_names_only_copies_of_signals_ends(outbox: Outbox, number: int) -> None:
    outbox.write(*range(1, number + 1))

    def sender(signals: list[Any]) -> None:
        outbox.sent_signals(signals)
        assert outbox.sent.count(1) < 4
        raise PartialDeliveryError(delivered=[outbox.model(id=signal.id) for signal in signals])

    outbox.sender = sender
    with outbox.app.app_context(), pytest.raises(PartialDeliveryError):
        SignalBus(outbox.db).flushmany([outbox.model])
    assert outbox.left() == list(range(1, number + 1))
    [failed] = outbox.burst(limit=1).failed
    assert "does not say" in failed.outcome.reason


class Timeout(BaseException):
    """As gevent has it."""


@pytest.mark.parametrize(
    "error",
    [SystemExit(1), asyncio.CancelledError(), GeneratorExit(), Timeout(), RecursionError("deep"), MemoryError()],
)
def test_whatever_the_send_method_raises_ends_in_the_result(outbox: Outbox, error: BaseException) -> None:
    outbox.write(1)

    def sender(signals: list[Any]) -> None:
        raise error

    outbox.sender = sender
    assert outbox.burst().error is error
    assert outbox.left() == [1]


def test_ctrl_c_in_send_method_ends_burst_and_keeps_signals(outbox: Outbox) -> None:
    outbox.write(1)

    def sender(signals: list[Any]) -> None:
        raise KeyboardInterrupt

    outbox.sender = sender
    with pytest.raises(KeyboardInterrupt):
        outbox.burst()
    assert outbox.left() == [1]


def test_an_interrupt_outside_main_thread_is_fault_of_signal(outbox: Outbox) -> None:
    outbox.write(1)

    def sender(signals: list[Any]) -> None:
        raise KeyboardInterrupt

    outbox.sender = sender
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(outbox.burst).result()
    assert [(failed.key, failed.outcome.cause) for failed in result.failed] == [((1,), "error")]


@pytest.mark.parametrize("wrapped", [False, True])
def test_exit_that_handler_of_posix_signal_raises_ends_burst(outbox: Outbox, wrapped: bool) -> None:
    outbox.write(1)

    def stop(*_: object) -> None:
        sys.exit(0)

    def sender(signals: list[Any]) -> None:
        posix_signals.raise_signal(posix_signals.SIGUSR1)

    outbox.sender = sender
    before = posix_signals.signal(posix_signals.SIGUSR1, partial(stop) if wrapped else stop)
    try:
        with pytest.raises(SystemExit):
            outbox.burst()
    finally:
        posix_signals.signal(posix_signals.SIGUSR1, before)
    assert outbox.left() == [1]


def test_one_signal_that_is_cancelled_holds_up_no_other(outbox: Outbox) -> None:
    outbox.write(1, 2, 3)

    def sender(signals: list[Any]) -> None:
        if 2 in [signal.id for signal in signals]:
            raise asyncio.CancelledError
        outbox.sent += [signal.id for signal in signals]

    outbox.sender = sender
    with outbox.app.app_context(), pytest.raises(BurstError, match="CancelledError"):
        SignalBus(outbox.db).flushmany()
    assert (outbox.left(), sorted(outbox.sent)) == ([2], [1, 3])


class Cancelling(sa.TypeDecorator[str]):
    """A type of the application's that raises what is no Exception."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        if value == "bad":
            raise asyncio.CancelledError
        return value


def test_a_row_whose_type_raises_what_is_no_exception_holds_up_no_other(database_url: str) -> None:
    app = OutboxApp(database_url)
    model = app.model("Typed", note=sa.Column(Cancelling))
    app.create()
    app.write(model, 1, note="bad")
    app.write(model, 2, note="good")
    result = app.burst(model, limit=5)
    assert (result.sent, [failed.key for failed in result.failed], app.left(model)) == (1, [(1,)], [1])
    app.close()


def test_excluded_keys_are_left_alone(outbox: Outbox) -> None:
    outbox.write(1, 2, 3)
    outbox.burst(choice=Choice(exclude=((1,), (3,))))
    assert outbox.sent == [2]


def test_only_excluded_keys_are_left_alone_whatever_kind_of_key(outbox: Outbox) -> None:
    db = outbox.db
    kinds: dict[str, tuple[Any, list[Any]]] = {
        "number": (db.BigInteger, [1, 2, 3]),
        "text": (db.Text, ["a", "b", "it's"]),
        "padded": (db.CHAR(8), ["a       ", "b       ", "c       "]),
        "universal": (db.Uuid, [uuid.UUID(int=number) for number in (1, 2, 3)]),
        "moment": (db.DateTime(timezone=True), [datetime(2026, 1, day, tzinfo=timezone.utc) for day in (1, 2, 3)]),
        "exact": (db.Numeric, [Decimal(1), Decimal("2.5"), Decimal(3)]),
    }
    for name, (kind, keys) in kinds.items():
        for composite in (False, True):
            sent: list[Any] = []
            members: dict[str, Any] = {
                "__tablename__": f"{name}_{composite}",
                "key": db.Column(kind, primary_key=True, autoincrement=False),
                "send_signalbus_message": lambda signal, sent=sent: sent.append(signal.key),
                "signalbus_burst_count": 10,
            }
            if composite:
                members["second"] = db.Column(db.Integer, primary_key=True, default=7, autoincrement=False)
            model: Any = type(f"{name}{composite}", (db.Model,), members)
            with outbox.app.app_context():
                model.__table__.create(db.engine)
                db.session.add_all([model(key=key) for key in keys])
                db.session.commit()
                [spec] = SignalBus(db).specs([model])
                excluded = tuple((key, 7) if composite else (key,) for key in (keys[0], keys[2]))
                result = send_burst(db.session(), spec, choice=Choice(exclude=excluded), rehearse=True)
            assert (sent, result.sent) == ([keys[1]], 1)


def test_instances_can_be_read_after_the_session_has_ended(outbox: Outbox) -> None:
    outbox.write(1)
    kept: list[Any] = []
    outbox.sender = kept.extend
    outbox.burst()
    assert (kept[0].id, kept[0].note, kept[0].secret) == (1, "n", "s")


def test_the_send_method_works_in_the_transaction_of_the_burst(outbox: Outbox) -> None:
    outbox.write(1)

    def sender(signals: list[Any]) -> None:
        outbox.db.session.add(outbox.note(id=5))

    outbox.sender = sender
    outbox.burst()
    assert outbox.left(outbox.note) == [5]


def test_what_a_failing_send_method_wrote_is_rolled_back(outbox: Outbox) -> None:
    outbox.write(1)

    def sender(signals: list[Any]) -> None:
        outbox.db.session.add(outbox.note(id=5))
        outbox.db.session.flush()
        raise ValueError("bad")

    outbox.sender = sender
    outbox.burst()
    assert outbox.left(outbox.note) == []
    assert outbox.left() == [1]


@pytest.mark.parametrize("ending", ["commit", "rollback", "close"])
def test_a_send_method_that_ends_the_transaction_does_not_lead_to_repeats(
    outbox: Outbox, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    outbox.write(1, 2)

    def sender(signals: list[Any]) -> None:
        getattr(outbox.db.session, ending)()

    outbox.sender = sender
    assert outbox.burst().sent == 2
    assert outbox.left() == []
    assert "sender_ended_transaction" in [getattr(record, "action", None) for record in caplog.records]


def test_a_transaction_that_the_send_method_broke_does_not_lead_to_repeats(outbox: Outbox) -> None:
    outbox.write(1)

    def sender(signals: list[Any]) -> None:
        with pytest.raises(sa.exc.DBAPIError):
            outbox.db.session.execute(sa.text("SELECT 1/0"))

    outbox.sender = sender
    assert outbox.burst().sent == 1
    assert outbox.left() == []


def test_a_signal_that_its_send_method_deletes_counts_as_sent(outbox: Outbox) -> None:
    outbox.write(1, 2)

    def sender(signals: list[Any]) -> None:
        outbox.db.session.delete(signals[0])
        outbox.db.session.flush()

    outbox.sender = sender
    assert outbox.burst().sent == 2
    assert outbox.left() == []


def test_changes_to_a_sent_instance_do_no_harm(outbox: Outbox) -> None:
    outbox.write(1, 2)

    def sender(signals: list[Any]) -> None:
        for signal in signals:
            signal.note = "sent"
            signal.id += 100

    outbox.sender = sender
    assert outbox.burst().sent == 2
    assert outbox.left() == []


def test_lost_connection_after_sending_does_not_lead_to_repeats(outbox: Outbox) -> None:
    outbox.write(1)

    def sender(signals: list[Any]) -> None:
        pid = outbox.db.session.scalar(sa.text("SELECT pg_backend_pid()"))
        outbox.execute(f"SELECT pg_terminate_backend({pid})")

    outbox.sender = sender
    assert outbox.burst().sent == 1
    assert outbox.left() == []


def test_burst_is_read_committed_whatever_default_isolation(outbox: Outbox) -> None:
    outbox.write(1)
    outbox.execute("ALTER ROLE CURRENT_USER SET default_transaction_isolation = 'serializable'")
    levels: list[str] = []

    def sender(signals: list[Any]) -> None:
        levels.append(outbox.db.session.scalar(sa.text("SHOW transaction_isolation")))

    outbox.sender = sender
    try:
        with outbox.app.app_context():
            outbox.db.engine.dispose()
        outbox.burst()
    finally:
        outbox.execute("ALTER ROLE CURRENT_USER RESET default_transaction_isolation")
    assert levels == ["read committed"]


def test_time_limits_hold_for_the_burst_and_end_with_it(outbox: Outbox) -> None:
    outbox.write(1)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    during: list[str] = []

    def show(session: Session | sa.Connection) -> list[str]:
        return [session.scalar(sa.text(f"SHOW {name}")) or "" for name in names]

    outbox.sender = lambda signals: during.extend(show(outbox.db.session()))
    outbox.burst(limits=BurstLimits(11, 12, 13))
    with outbox.transaction() as connection:
        after = show(connection)
    assert during == ["11s", "12s", "13s"]
    assert after == ["0", "0", "0"]


def test_locked_table_is_not_waited_for_longer_than_lock_timeout(outbox: Outbox) -> None:
    outbox.write(1)
    with outbox.transaction() as connection:
        connection.execute(sa.text('LOCK TABLE "order" IN ACCESS EXCLUSIVE MODE'))
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            outbox.burst(limits=BurstLimits(lock_timeout_seconds=0.2))
    assert outbox.sent == []
    assert outbox.left() == [1]


REFUSE_DELETE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
    CREATE TRIGGER refuse BEFORE DELETE ON "order" FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.parametrize("body", ["RAISE EXCEPTION 'not allowed';", "RETURN NULL;"], ids=["raises", "suppresses"])
def test_rehearsed_burst_sends_no_signal_that_cannot_be_deleted(outbox: Outbox, body: str) -> None:
    outbox.write(1)
    outbox.execute(REFUSE_DELETE.format(body=body))
    result = outbox.burst(rehearse=True)
    assert [(one.key, one.outcome.kind) for one in result.failed] == [((1,), OutcomeKind.INVALID)]
    assert "cannot be deleted" in result.failed[0].outcome.reason
    assert outbox.sent == []
    assert outbox.left() == [1]


def test_a_deferred_constraint_shows_in_the_rehearsal(outbox: Outbox) -> None:
    outbox.write(1, 2, 3)
    outbox.execute('CREATE TABLE child (id int REFERENCES "order" (id) DEFERRABLE INITIALLY DEFERRED)')
    outbox.execute("INSERT INTO child VALUES (2)")
    result = outbox.burst(rehearse=True)
    assert [one.key for one in result.failed] == [(2,)]
    assert outbox.sent == [1, 3]
    assert outbox.left() == [2]


def test_a_rehearsal_changes_nothing_when_all_is_well(outbox: Outbox) -> None:
    outbox.write(1, 2)
    assert outbox.burst(rehearse=True).sent == 2
    assert outbox.sent == [1, 2]


@pytest.mark.parametrize("body", ["RAISE EXCEPTION 'not allowed';", "RETURN NULL;"], ids=["raises", "suppresses"])
def test_sent_signals_that_cannot_be_deleted_are_told_with_the_reason(outbox: Outbox, body: str) -> None:
    outbox.write(1, 2)
    outbox.execute(REFUSE_DELETE.format(body=body))
    result = outbox.burst()
    assert (result.sent, result.failed) == (0, ())
    assert [(one.key, one.outcome.kind, one.outcome.cause) for one in result.undeleted] == [
        ((1,), OutcomeKind.ACKED, "undeleted"),
        ((2,), OutcomeKind.ACKED, "undeleted"),
    ]
    assert all(one.version and one.outcome.reason for one in result.undeleted)
    assert outbox.left() == [1, 2]


def test_durations_are_measured_by_phase(outbox: Outbox) -> None:
    outbox.write(1)
    times = iter([1.0, 3.0, 6.0, 10.0])
    result = outbox.burst(clock=lambda: next(times))
    assert (result.lock_seconds, result.send_seconds, result.commit_seconds) == (2.0, 3.0, 4.0)


@pytest.mark.parametrize("many", [True, False])
def test_a_send_method_whose_code_has_not_run_keeps_its_signals(outbox: Outbox, many: bool) -> None:
    outbox.write(1, 2)

    def generator(_self_or_class: Any, _signals: Any = None) -> Iterator[None]:
        outbox.sent.append(1)
        yield

    async def coroutine(_self_or_class: Any, _signals: Any = None) -> None:
        outbox.sent.append(1)

    def function(*_: Any) -> Any:
        return outbox.sent.append

    def lazy(*_: Any) -> Any:
        return map(outbox.sent.append, [1])

    def future(*_: Any) -> Any:
        failed: Future[None] = Future()
        failed.set_exception(OSError("not sent"))
        return failed

    for unfinished in (generator, coroutine, function, lazy, future):
        outbox.model.send_signalbus_message = unfinished
        outbox.model.send_signalbus_messages = classmethod(unfinished)
        error = outbox.burst(limit=2 if many else 1).error
        assert "has not run" in str(error)
    assert outbox.sent == []
    assert outbox.left() == [1, 2]


@pytest.fixture
def one_by_one(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """Without a method for many, and with no time for more than one."""
    monkeypatch.setattr(outbox.model, "send_signalbus_messages", None)
    monkeypatch.setattr("signalbus_core.model.contract.LONG_SEND_SECONDS", 0.0)
    return outbox


def test_what_is_sent_one_by_one_is_deleted_when_slow(one_by_one: Outbox) -> None:
    one_by_one.write(1, 2, 3)
    result = one_by_one.burst()
    assert (result.selected, result.sent, result.failed, result.error) == (3, 1, (), None)
    assert result.has_unmentioned
    assert one_by_one.left() == [2, 3]


def test_flushmany_sends_short_bursts_when_sending_is_slow(one_by_one: Outbox) -> None:
    one_by_one.write(1, 2, 3)
    with one_by_one.app.app_context():
        assert SignalBus(one_by_one.db).flushmany([one_by_one.model]) == 3
    assert one_by_one.sent == [1, 2, 3]


def test_progress_is_reported_and_transaction_is_not_idle(outbox: Outbox) -> None:
    outbox.write(1)
    clock, beats, states = Clock(), [], []

    def send(_signals: list[Any]) -> None:
        pid = outbox.db.session.scalar(sa.text("SELECT pg_backend_pid()"))
        for seconds in (1.0, 100.0):
            clock.now += seconds
            report_progress()
            with outbox.transaction() as other:
                statement = sa.text("SELECT state_change, query FROM pg_stat_activity WHERE pid = :pid")
                states.append(tuple(other.execute(statement, {"pid": pid}).one()))

    outbox.sender = send
    assert outbox.burst(clock=clock, on_progress=lambda: beats.append(clock.now)).sent == 1
    assert beats == [1.0, 101.0]
    assert states[0] < states[1]
    assert states[1][1] == "SELECT 1"
