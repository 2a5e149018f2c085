"""A request that waits until its signal has been sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from signalbus_core import SetupError, SignalModelError, TransactionStateError
from signalbus_core.burst import delete
from signalbus_core.rabbitmq import Message
from signalbus_core.waiting import wait
from signalbus_core.waiting.bell import CHANNEL_PREFIX
from tests.support.outbox_app import OutboxApp
from tests.support.waiting import eventually

#: Longer than any test takes: who is not woken by a burst is seen to fail.
LONG_SECONDS = 60.0

LOCKS = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = ("
                "SELECT oid FROM pg_database WHERE datname = current_database())")  # fmt: skip

WAITING = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted "
                  "AND classid = 1396853561 AND database = (SELECT oid FROM pg_database WHERE datname = "
                  "current_database())")  # fmt: skip


class Waiters:
    """An application, and requests of it that wait for signals."""

    def __init__(self, url: str) -> None:
        self.outbox = OutboxApp(url, engine={"pool_size": 20})
        self.sent = self.outbox.model("Sent", __tablename__='se"nt %s;')
        self.outbox.create()
        self._threads = ThreadPoolExecutor(8)

    def signal(self, number: int) -> Any:
        """A signal that has been committed, and is detached."""
        with self.outbox.app.app_context():
            session = self.outbox.db.session
            signal = self.sent(id=number)
            session.add(signal)
            session.commit()
            session.expunge_all()
        return signal

    def wait(self, signal: Any, seconds: float = LONG_SECONDS) -> bool:
        with self.outbox.app.app_context():
            return self.outbox.db.signalbus.wait_sent(signal, seconds)

    def begin(self, signal: Any) -> Future[bool]:
        return self._threads.submit(self.wait, signal)

    def scalar(self, statement: sa.TextClause) -> Any:
        with self.outbox.app.app_context(), self.outbox.db.engine.connect() as connection:
            return connection.scalar(statement)

    def close(self) -> None:
        self._threads.shutdown()
        self.outbox.close()


@pytest.fixture(params=["psycopg2", "psycopg"])
def waiters(request: pytest.FixtureRequest, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiters]:
    monkeypatch.setattr(wait, "LOOK_SECONDS", LONG_SECONDS)
    waiters = Waiters(database_url.replace("psycopg2", request.param))
    yield waiters
    waiters.close()


@pytest.fixture
def heard(waiters: Waiters) -> Iterator[Any]:
    """Returns how many notifications a session has received since the last call."""
    connection = psycopg2.connect(waiters.outbox.database_url.replace("+psycopg2", "").replace("+psycopg", ""))
    connection.autocommit = True
    oid = waiters.scalar(sa.text("""SELECT CAST(CAST(to_regclass('"se""nt %s;"') AS oid) AS bigint)"""))
    assert oid is not None
    connection.cursor().execute(f"LISTEN {CHANNEL_PREFIX}{oid}")

    def take() -> int:
        connection.cursor().execute("SELECT 1")
        found = len(connection.notifies)
        connection.notifies.clear()
        return found

    yield take
    connection.close()


def test_burst_ends_the_waits_for_its_signals_and_no_others(waiters: Waiters) -> None:
    first, second, third = (waiters.signal(number) for number in (1, 2, 3))
    waiting = [waiters.begin(signal) for signal in (first, first, second)]
    late = waiters.begin(third)
    eventually(lambda: waiters.scalar(WAITING) == 4)
    assert waiters.outbox.burst(waiters.sent, limit=2).sent == 2
    assert [one.result(20) for one in waiting] == [True, True, True]
    assert not late.done()
    assert waiters.outbox.burst(waiters.sent, limit=2).sent == 1
    assert late.result(20) is True
    eventually(lambda: waiters.scalar(LOCKS) == 0)


def test_flushmany_ends_a_wait(waiters: Waiters) -> None:
    waiting = waiters.begin(waiters.signal(1))
    eventually(lambda: waiters.scalar(WAITING) == 1)
    with waiters.outbox.app.app_context():
        assert waiters.outbox.db.signalbus.flushmany() == 1
    assert waiting.result(20) is True


def test_signal_that_was_sent_before_needs_no_wait(waiters: Waiters) -> None:
    signal = waiters.signal(1)
    assert waiters.outbox.burst(waiters.sent).sent == 1
    assert waiters.wait(signal, 0) is True


def test_wait_that_is_over_leaves_nothing_on_its_connection(waiters: Waiters) -> None:
    signal = waiters.signal(1)
    assert waiters.wait(signal, 0.05) is False
    assert waiters.wait(signal, 0) is False
    assert waiters.scalar(LOCKS) == 0
    assert waiters.scalar(sa.text("SELECT count(*) FROM pg_listening_channels()")) == 0
    assert waiters.outbox.left(waiters.sent) == [1]


def test_commit_of_burst_in_flight_when_the_wait_begins_is_not_missed(
    waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = waiters.signal(1)
    deleted, commit = threading.Event(), threading.Event()

    def stop_at(point: str) -> None:
        if point == "deleted":
            deleted.set()
            assert commit.wait(20)

    monkeypatch.setattr(delete, "failpoint", stop_at)
    with ThreadPoolExecutor(1) as relay:
        burst = relay.submit(waiters.outbox.burst, waiters.sent)
        assert deleted.wait(20)
        waiting = waiters.begin(signal)
        eventually(lambda: waiters.scalar(WAITING) == 1)
        commit.set()
        assert burst.result(20).sent == 1
    assert waiting.result(20) is True


def test_bursts_notify_nobody_while_nobody_waits(waiters: Waiters, heard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waiters.outbox.write(waiters.sent, 1, 2, 3)
    assert waiters.outbox.burst(waiters.sent, limit=1).sent == 1
    others: list[int] = []

    def burst_beside(point: str) -> None:
        if point == "deleted" and not others:
            others.append(0)
            others.append(waiters.outbox.burst(waiters.sent, limit=1).sent)

    monkeypatch.setattr(delete, "failpoint", burst_beside)
    assert waiters.outbox.burst(waiters.sent, limit=1).sent == 1
    assert others == [0, 1]
    assert heard() == 0
    waiting = waiters.begin(waiters.signal(4))
    eventually(lambda: waiters.scalar(WAITING) == 1)
    assert waiters.outbox.burst(waiters.sent).sent == 1
    assert waiting.result(20) is True
    eventually(lambda: heard() == 1)


def test_burst_whose_bell_fails_sends_and_deletes_all_the_same(
    waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete, "ring_if_awaited", lambda table: "SELECT 1 / 0")
    signal = waiters.signal(1)
    assert waiters.outbox.burst(waiters.sent).sent == 1
    assert waiters.wait(signal, 0) is True


def test_wait_without_notification_looks_at_intervals(waiters: Waiters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "LOOK_SECONDS", 0.05)
    waiting = waiters.begin(waiters.signal(1))
    eventually(lambda: waiters.scalar(WAITING) == 1)
    waiters.outbox.execute('DELETE FROM "se""nt %s;"')
    assert waiting.result(20) is True


def test_signal_that_is_not_committed_is_refused(waiters: Waiters) -> None:
    outbox, bus = waiters.outbox, waiters.outbox.db.signalbus
    other = waiters.signal(7)
    with outbox.app.app_context():
        session = outbox.db.session
        with pytest.raises(TransactionStateError, match="has not been committed"):
            bus.wait_sent(waiters.sent(id=1), 5)
        signal = waiters.sent(id=1)
        session.add(signal)
        for flush in (False, True):
            if flush:
                session.flush()
            for one in (signal, other):
                with pytest.raises(TransactionStateError, match="Commit first"):
                    bus.wait_sent(one, 5)
        session.rollback()
        with Session(outbox.db.engine) as separate:
            mine = waiters.sent(id=2)
            separate.add(mine)
            separate.flush()
            with pytest.raises(TransactionStateError, match="Commit first"):
                bus.wait_sent(mine, 5)
        with outbox.db.engine.connect() as connection, Session(connection) as bound:
            found = bound.scalars(sa.select(waiters.sent)).one()
            with pytest.raises(TransactionStateError, match="bound to a connection"):
                bus.wait_sent(found, 5)


def test_wait_inside_a_send_method_is_refused(database_url: str) -> None:
    outbox = OutboxApp(database_url)
    refused: list[str] = []

    def send(self: Any) -> None:
        try:
            outbox.db.signalbus.wait_sent(self, 5)
        except TransactionStateError as error:
            refused.append(str(error))

    model = outbox.model("Sent", send)
    outbox.create()
    outbox.write(model, 1)
    assert outbox.burst(model).sent == 1
    assert refused == ["wait_sent() was called inside an atomic block or a send method."]
    outbox.close()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", None, True])
def test_timeout_that_is_no_number_of_seconds_is_refused(waiters: Waiters, seconds: Any) -> None:
    with pytest.raises(SetupError, match="timeout_seconds"):
        waiters.wait(waiters.sent(id=1), seconds)


def test_object_that_is_no_signal_is_refused(waiters: Waiters) -> None:
    with pytest.raises(SignalModelError, match="is not a signal model"):
        waiters.wait(object())


def test_new_signal_under_the_key_of_a_sent_one_is_not_mistaken_for_it(database_url: str) -> None:
    outbox = OutboxApp(database_url)
    model = outbox.rabbitmq_model("Sent", lambda self: Message("e", "k"))
    outbox.create()
    with outbox.app.app_context():
        signal = model(id=1)
        outbox.db.session.add(signal)
        outbox.db.session.commit()
        assert signal.signalbus_id
        outbox.db.session.expunge_all()
        outbox.db.session.rollback()
        outbox.execute("UPDATE sent SET signalbus_id = gen_random_uuid()")
        assert outbox.db.signalbus.wait_sent(signal, 0) is True
    outbox.close()


def test_wait_on_sqlite_looks_at_intervals() -> None:
    outbox = OutboxApp("sqlite://")
    model = outbox.model("Sent")
    outbox.create()
    with outbox.app.app_context():
        signal = model(id=1)
        outbox.db.session.add(signal)
        outbox.db.session.commit()
        assert outbox.db.signalbus.wait_sent(signal, 0.02) is False
        assert outbox.db.signalbus.flushmany() == 1
        assert outbox.db.signalbus.wait_sent(signal, 0.02) is True
    outbox.close()
