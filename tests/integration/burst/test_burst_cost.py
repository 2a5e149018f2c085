"""What a burst asks of the database and of the broker, counted: round trips, and calls that write to the broker."""

from __future__ import annotations

import contextlib
import math
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import column_property

from signalbus_core import SignalBus, SignalBusMixin
from signalbus_core.burst.size import MOST_BYTES
from signalbus_core.lowlevel import BurstLimits, BurstResult, Choice, LeaveOut, send_burst
from signalbus_core.rabbitmq import Message, Publisher, RabbitMQSignal
from signalbus_core.rabbitmq.amqp.connection import WRITE_BYTES, JoiningConnection
from signalbus_core.sql.transaction import FOLLOW_THE_INDEX
from tests.support.broker import Broker
from tests.support.postgres import PrivatePostgres
from tests.support.servers import RabbitMQ
from tests.support.statement_log import SETTINGS, StatementLog

SHOW = sa.text(
    "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
    " current_setting('enable_sort'), current_setting('enable_bitmapscan')"
)


@pytest.fixture(scope="module")
def logging_postgres() -> Iterator[PrivatePostgres]:
    with PrivatePostgres(settings=SETTINGS) as server:
        yield server.start()


@pytest.fixture(scope="module")
def shared_broker(rabbitmq: RabbitMQ) -> Iterator[Broker]:
    broker = Broker(rabbitmq.url)
    yield broker
    broker.close()


@contextlib.contextmanager
def calls(owner: Any, name: str) -> Iterator[list[tuple[Any, ...]]]:
    """What this thread calls a method with in the block; other threads of the process have their own business."""
    original, noted, caller = getattr(owner, name), [], threading.get_ident()

    def called(self: Any, *arguments: Any) -> Any:
        if threading.get_ident() == caller:
            noted.append(arguments)
        return original(self, *arguments)

    with mock.patch.object(owner, name, called):
        yield noted


class Outbox:
    """An application whose signals go to a queue, and whose sessions are logged by the server."""

    def __init__(self, server: PrivatePostgres, broker: Broker) -> None:
        class Database(SignalBusMixin, SQLAlchemy):
            pass

        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = server.create_database() + "?application_name=counted"
        self.db = db = Database(self.app)
        # Without heartbeats, all that is sent belongs to a burst.
        self.publisher = Publisher(self.app, url=broker.url + ("&" if "?" in broker.url else "?") + "heartbeat=0")
        exchange = broker.exchange()
        self.queue = broker.queue(exchange)
        self.seen: list[Any] = []
        outbox = self

        class Order(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
            signalbus_exchange = exchange
            signalbus_routing_key = "wanted"
            id = db.Column(db.BigInteger, primary_key=True)
            body = db.Column(db.Text)

            def signalbus_message(self) -> Message:
                return Message(body=self.body)

        class Letter(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.BigInteger, primary_key=True)
            body = db.Column(db.Text)

            def send_signalbus_message(self) -> None:
                outbox.seen.append((self.body, tuple(db.session.execute(SHOW).one())))

        class Doc(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.BigInteger, primary_key=True)
            body = db.Column(JSONB)

            def send_signalbus_message(self) -> None: ...

        self.doc: Any = Doc

        class Pair(db.Model):  # type: ignore[name-defined,misc]
            tenant = db.Column(db.BigInteger, primary_key=True)
            id = db.Column(db.BigInteger, primary_key=True)
            signalbus_burst_count = 100

            def send_signalbus_message(self) -> None: ...

        self.pair: Any = Pair
        self.order: Any = Order
        self.letter: Any = Letter
        with self.app.app_context():
            db.create_all()
            # Kept, as a relay keeps them: what is prepared for a model is kept with its spec.
            self.specs = {spec.model: spec for spec in SignalBus(db).specs()}
        self.log = StatementLog(server, "counted")

    def write(self, first: int, last: int, body: str = "x" * 200, model: Any = None) -> None:
        with self.app.app_context():
            rows = [{"id": number, "body": body} for number in range(first, last + 1)]
            self.db.session.execute(sa.insert(model or self.order), rows)
            self.db.session.commit()

    def burst(self, model: Any = None, **arguments: Any) -> BurstResult:
        with self.app.app_context():
            return send_burst(self.db.session(), self.specs[model or self.order], **arguments)

    def left(self, model: Any = None) -> list[int]:
        with self.app.app_context():
            return list(self.db.session.scalars(sa.select((model or self.order).id).order_by("id")))

    def close(self) -> None:
        self.publisher.close()
        with self.app.app_context():
            self.db.engine.dispose()


@pytest.fixture
def outbox(logging_postgres: PrivatePostgres, shared_broker: Broker) -> Iterator[Outbox]:
    outbox = Outbox(logging_postgres, shared_broker)
    yield outbox
    outbox.close()


@pytest.mark.parametrize("count", [1, 300])
def test_burst_is_four_round_trips_to_database_whatever_its_size(outbox: Outbox, count: int) -> None:
    outbox.write(1, 1 + count)
    # The first burst of an engine makes its connection.
    assert outbox.burst(limit=1).sent == 1
    outbox.log.new()
    assert outbox.burst(limit=count).sent == count
    begin, lock, delete, commit = outbox.log.new()
    assert begin.startswith("BEGIN")
    assert "SET LOCAL statement_timeout" in lock
    assert "SET LOCAL enable_sort = off" in lock
    assert "FOR UPDATE SKIP LOCKED" in lock
    assert "DELETE FROM" in delete
    assert commit.startswith("COMMIT")


def test_the_time_limits_of_a_burst_hold_for_its_transaction_and_end_with_it(outbox: Outbox) -> None:
    outbox.write(1, 2, model=outbox.letter)
    for number in (1, 2):
        limits = BurstLimits(statement_timeout_seconds=10 + number, lock_timeout_seconds=3)
        assert outbox.burst(outbox.letter, limit=1, limits=limits).sent == 1
        with outbox.app.app_context():
            assert tuple(outbox.db.session.execute(SHOW).one()) == ("0", "0", "on", "on")
    assert [limits for _, limits in outbox.seen] == [("11s", "3s", "on", "on"), ("12s", "3s", "on", "on")]


def test_signals_with_keys_of_several_columns_are_deleted_without_reading_the_whole_table(outbox: Outbox) -> None:
    with outbox.app.app_context(), outbox.db.engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO pair SELECT n % 7, n FROM generate_series(1, 50000) n"))
        connection.execute(sa.text("ANALYZE pair"))
    assert outbox.burst(outbox.pair, limit=1).sent == 1
    outbox.log.new()
    assert outbox.burst(outbox.pair).sent == 100
    [delete] = [text for text in outbox.log.new() if "DELETE FROM pair" in text]
    *settings, statement = delete.split("; ")
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        for setting in [*FOLLOW_THE_INDEX, *settings]:
            connection.exec_driver_sql(setting)
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}").scalars())
    # By their places; that these are still the same rows is filtered, and nothing else is read.
    assert "Tid Scan" in plan
    assert "Seq Scan" not in plan


def test_burst_waiting_for_lock_is_limited_by_first_statement(outbox: Outbox) -> None:
    outbox.write(1, 1)
    with outbox.app.app_context():
        other = outbox.db.engine.connect()
    try:
        other.execute(sa.text('LOCK TABLE "order" IN ACCESS EXCLUSIVE MODE'))
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            outbox.burst(limits=BurstLimits(statement_timeout_seconds=60, lock_timeout_seconds=0.1))
    finally:
        other.close()
    assert outbox.burst().sent == 1


def test_a_bursts_messages_are_written_together(outbox: Outbox) -> None:
    count = 1000
    outbox.write(1, 1 + count, body="x" * 1000)
    outbox.burst(limit=1)
    with calls(JoiningConnection, "write_frames") as written, calls(socket.socket, "send") as sent:
        result = outbox.burst(limit=count)
    assert result.sent == count
    assert result.message_bytes is not None
    assert count * 1000 < result.message_bytes < count * 1300
    assert len(written) <= math.ceil(result.message_bytes / WRITE_BYTES)
    assert sum(len(data) for data, _frames in written) == result.message_bytes
    # A socket may take less than it is given.
    assert len(sent) <= 10 * len(written)


def test_a_burst_of_one_is_written_by_one_call(outbox: Outbox) -> None:
    outbox.write(1, 2)
    outbox.burst(limit=1)
    with calls(socket.socket, "send") as sent:
        assert outbox.burst(limit=1).sent == 1
    assert len(sent) == 1


def test_burst_of_one_calls_few_functions(outbox: Outbox) -> None:
    outbox.write(1, 3)
    for _ in range(2):
        outbox.burst(limit=1)
    frames = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal frames
        frames += event == "call"

    with outbox.app.app_context():
        session = outbox.db.session()
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            result = send_burst(session, outbox.specs[outbox.order], limit=1)
        finally:
            sys.setprofile(before)
    assert result.sent == 1
    # Two thirds of them are of SQLAlchemy and pika.
    assert frames < 1_100


def test_a_sender_of_applications_own_tells_nothing_of_weight(outbox: Outbox) -> None:
    outbox.write(1, 1, model=outbox.letter)
    assert outbox.burst(outbox.letter).message_bytes is None


@pytest.mark.parametrize("storage", ["EXTENDED", "EXTERNAL", "MAIN"])
@pytest.mark.parametrize("query", ["loads", "fails for one row"])
def test_a_burst_never_reads_more_than_its_bytes_and_a_row(outbox: Outbox, storage: str, query: str) -> None:
    with outbox.app.app_context(), outbox.db.engine.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE letter ALTER body SET STORAGE {storage}"))
        connection.execute(sa.text("INSERT INTO letter SELECT n, 'x' FROM generate_series(1, 3) n"))
        connection.execute(sa.text("INSERT INTO letter SELECT n, repeat('x', 6 << 20) FROM generate_series(4, 9) n"))
    if query != "loads":
        outbox.letter.__mapper__.add_property("inverse", column_property(1 / (outbox.letter.__table__.c.id - 2)))
    rest = outbox.burst(outbox.letter, limit=100)
    read = [len(body) for body, _ in outbox.seen]
    # Sizes were asked of no earlier burst.
    assert sum(read) <= MOST_BYTES + max(read)
    assert rest.is_cut
    assert len(read) == (6 if query == "loads" else 4)
    assert outbox.burst(outbox.letter, limit=100).sent > 0


def test_a_compressed_value_counts_as_large_as_it_is_read(outbox: Outbox) -> None:
    with outbox.app.app_context(), outbox.db.engine.begin() as connection:
        # 100 kB that are stored in less than 2 kB.
        value = "jsonb_build_object('x', repeat('x', 100000))"
        connection.execute(sa.text(f"INSERT INTO doc SELECT n, {value} FROM generate_series(1, 250) n"))
        assert connection.scalar(sa.text("SELECT max(pg_column_size(body)) FROM doc")) < 2000
    result = outbox.burst(outbox.doc, limit=250)
    assert result.is_cut
    assert (result.sent - 1) * 100_000 <= MOST_BYTES < 250 * 100_000


def test_each_burst_has_a_limit_and_a_start_of_its_own(outbox: Outbox) -> None:
    outbox.write(1, 12)
    for start, limit in ((3, 2), (7, 3), (None, 1), (9, 1)):
        assert outbox.burst(limit=limit, choice=Choice(start=start)).sent == limit
    assert outbox.left() == [2, 5, 6, 11, 12]


def test_each_burst_leaves_out_what_its_own_choice_says(outbox: Outbox) -> None:
    outbox.write(1, 9)
    with outbox.app.app_context():
        outbox.db.session.execute(
            sa.text(
                "INSERT INTO signalbus_parked (table_name, key, next_try_at, model, attempts, first_failed_at,"
                " last_failed_at, error_class, error_text) SELECT 'order', key, next_try_at, 'Order', 1, now(), now(),"
                " '', '' FROM (VALUES ('1', NULL), ('2', now())) given (key, next_try_at)"
            )
        )
        outbox.db.session.commit()
    for choice, left in (
        (Choice(LeaveOut.FAILED), [1, 2, 4, 5, 6, 7, 8, 9]),
        (Choice(LeaveOut.FAILED, exclude=((4,), (5,))), [1, 2, 4, 5, 7, 8, 9]),
        (Choice(LeaveOut.PARKED), [1, 4, 5, 7, 8, 9]),
        (Choice(LeaveOut.PARKED, exclude=((4,),)), [1, 4, 7, 8, 9]),
        (Choice(LeaveOut.FAILED), [1, 7, 8, 9]),
        (Choice(exclude=((1,),)), [1, 8, 9]),
        (Choice(), [8, 9]),
    ):
        assert outbox.burst(limit=1, choice=choice).sent == 1
        assert outbox.left() == left


def test_what_session_knew_does_not_hide_what_is_in_row(outbox: Outbox) -> None:
    outbox.write(1, 1, body="old", model=outbox.letter)
    with outbox.app.app_context():
        session = outbox.db.session()
        known = session.get(outbox.letter, 1)
        session.expunge(known)
        session.rollback()
        with outbox.db.engine.begin() as other:
            other.execute(sa.text("UPDATE letter SET body = 'new'"))
        session.add(known)
        [spec] = SignalBus(outbox.db).specs([outbox.letter])
        assert send_burst(session, spec).sent == 1
    assert [body for body, _ in outbox.seen] == ["new"]
