"""The inbox on a real PostgreSQL: a message has its effects once, whatever is raced, rolled back or killed."""

from __future__ import annotations

import asyncio
import functools
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from pika import BasicProperties
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from signalbus_core import AtomicProceduresMixin, SetupError, SignalBusMixin, TransactionStateError, inbox
from tests.support.broker import Broker
from tests.support.fuzzing import FACTOR
from tests.support.waiting import eventually

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


@pytest.fixture(scope="module")
def module_url(postgres: Any) -> str:
    """One database for all tests of this module; each has ids of its own."""
    url: str = postgres.create_database()
    engine = sa.create_engine(url)
    metadata = sa.MetaData()
    inbox.table(metadata)
    sa.Table("effect", metadata, sa.Column("message_id", sa.Text))
    metadata.create_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def engine(module_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(module_url)
    yield engine
    engine.dispose()


@pytest.fixture
def message_id() -> str:
    return str(uuid4())


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start it; returns a function that waits for its result, or its error."""
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(work())
        except Exception as error:
            results.put(error)

    threading.Thread(target=run, daemon=True).start()
    return lambda: results.get(timeout=30)


def waits(engine: sa.Engine, pid: int) -> bool:
    with engine.connect() as connection:
        found = connection.scalar(sa.text("SELECT cardinality(pg_blocking_pids(:pid))"), {"pid": pid})
    return bool(found)


def pid_of(session: Session) -> int:
    return int(session.scalar(sa.text("SELECT pg_backend_pid()")) or 0)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_second_delivery_waits_for_the_first(engine: sa.Engine, message_id: str, level: str, ends: str) -> None:
    raced = engine.execution_options(isolation_level=level)
    with Session(raced) as first, Session(raced) as second:
        pid = pid_of(second)
        assert inbox.receive(first, message_id, "billing")
        result = in_thread(lambda: inbox.receive(second, message_id, "billing"))
        eventually(lambda: waits(engine, pid))
        getattr(first, ends)()
        told = result()
        if ends == "rollback":
            assert told is True
        elif level == "READ COMMITTED":
            assert told is False
        else:
            assert isinstance(told, OperationalError)
            assert told.orig.pgcode == "40001"  # type: ignore[union-attr]
            second.rollback()
            assert inbox.receive(second, message_id, "billing") is False


@pytest.mark.parametrize("level", LEVELS)
def test_a_message_is_new_to_each_consumer_once(engine: sa.Engine, message_id: str, level: str) -> None:
    with Session(engine.execution_options(isolation_level=level)) as session:
        told = []
        for consumer in ("billing", "Billing", "billing", "packing"):
            told.append(inbox.receive(session, message_id, consumer))
            session.commit()
    assert told == [True, True, False, True]


def test_rollback_to_a_savepoint_makes_a_message_new_again(engine: sa.Engine, message_id: str) -> None:
    with Session(engine) as session:
        with session.begin_nested() as savepoint:
            assert inbox.receive(session, message_id, "billing")
            savepoint.rollback()
        assert inbox.receive(session, message_id, "billing")
        assert not inbox.receive(session, message_id, "billing")


class Database(AtomicProceduresMixin, SignalBusMixin, SQLAlchemy):
    pass


def test_an_atomic_block_that_lost_the_race_skips(engine: sa.Engine, module_url: str, message_id: str) -> None:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = module_url
    db = Database(app)
    tries = []

    @db.atomic
    def process() -> bool:
        tries.append(1)
        db.session.execute(sa.text("SELECT 1"))  # its snapshot is older than the other's commit
        if len(tries) == 1:
            with Session(engine) as other:
                assert inbox.receive(other, message_id, "atomic")
                other.commit()
        return inbox.receive(db.session, message_id, "atomic")

    with app.app_context():
        assert process() is False
        assert len(tries) == 2
        db.engine.dispose()


IDS = [
    "a",
    "A",
    " a",
    "a ",
    "é" * 127,
    "x" * 255,
    b"\xff" * 255,
    "\0",
    "\\0",
    "\\\\0",
    "\udc80",
    "\\udc80",
    b"\x80",
    "😀",
    "'; --",
    "%s",
    ":x",
]


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_ids_of_any_characters_are_told_apart(module_url: str, dialect: str) -> None:
    url = module_url if dialect == "postgresql" else "sqlite://"
    engine = sa.create_engine(url)
    metadata = sa.MetaData()
    inbox.table(metadata)
    metadata.create_all(engine)
    consumer = f"characters-{uuid4()}"
    with Session(engine) as session:
        for given in IDS:
            # A byte that is not UTF-8 is the character that Python escapes it to.
            assert inbox.receive(session, given, consumer) is (given != b"\x80"), given
            assert not inbox.receive(session, given, consumer), given
        number = uuid4()
        assert inbox.receive(session, number, consumer)
        assert not inbox.receive(session, str(number), consumer)
        session.commit()
        assert not inbox.receive(session, "x" * 255, consumer)
    engine.dispose()


@pytest.mark.parametrize("given", [None, "", b"", 7, "x" * 256, "é" * 128], ids=repr)
def test_a_message_without_a_usable_id_is_refused(engine: sa.Engine, given: Any) -> None:
    with Session(engine) as session, pytest.raises(inbox.MessageIdError) as refused:
        inbox.receive(session, given, "billing")
    assert any(remedy in str(refused.value) for remedy in ("Reject it", "digest", "a text or a UUID"))


@pytest.mark.parametrize(
    "name", ["", " billing", "billing ", "bil\nling", "b\0", "x" * 256, "é" * 128, None, 7], ids=repr
)
def test_a_name_that_is_none_is_refused(engine: sa.Engine, name: Any) -> None:
    with Session(engine) as session, pytest.raises(SetupError, match="no name of a consumer"):
        inbox.receive(session, "1", name)
    with pytest.raises(SetupError, match="no name of a consumer"):
        inbox.once(name)


def test_two_handlers_of_one_name_are_refused(engine: sa.Engine, message_id: str) -> None:
    def make() -> Callable[..., Any]:
        @inbox.once("shared")
        def handler(session: Session, message_id: str, word: str) -> str:
            return word

        return handler

    with Session(engine) as session:
        assert make()(session, message_id, "done") == "done"
        # The same function again, as when its module is imported twice.
        assert make()(session, message_id, word="done") is None
    with pytest.raises(SetupError, match="a name of its own"):

        @inbox.once("shared")
        def other(session: Session, message_id: str) -> None: ...

    with pytest.raises(SetupError, match="generator"):

        @inbox.once("streams")
        def streams(session: Session, message_id: str) -> Iterator[int]:
            yield 1

    @inbox.once("twice")
    def _(session: Session, message_id: str) -> None: ...

    with pytest.raises(SetupError, match="a name of its own"):

        @inbox.once("twice")
        def _(session: Session, message_id: str) -> None: ...

    # A decorator hides what kind of function it is.
    hidden = inbox.once("hidden")(lambda *_: (number for number in (1, 2)))
    with Session(engine) as session, pytest.raises(SetupError, match="its code has not run"):
        hidden(session, message_id)


class Billing:
    def __init__(self, region: str, db: object) -> None:
        self.region, self.db = region, db

    def bill(self, session: Session, message_id: str) -> None: ...

    def __call__(self, session: Session, message_id: str) -> None: ...


def _closed_over(value: Any, db: object) -> Any:
    def handler(session: Session, message_id: str) -> Any:
        return value, db

    return handler


def _defaulted(value: Any, db: object) -> Any:
    def handler(session: Session, message_id: str, which: Any = value, *, database: object = db) -> None: ...

    return handler


@pytest.mark.parametrize(
    "make",
    [
        _closed_over,
        _defaulted,
        lambda value, db: _closed_over(_closed_over(value, db), db),
        lambda value, db: _closed_over({"regions": [value]}, db),
        lambda value, db: functools.wraps(_closed_over)(_closed_over(value, db)),
        lambda value, db: functools.partial(_closed_over("eu", db), which=value),
        lambda value, db: Billing(value, db).bill,
        Billing,
    ],
)
def test_handlers_that_a_factory_makes_of_different_values_need_names(make: Any, message_id: str) -> None:
    inbox.once(message_id)(make("eu", object()))
    # As when the factory of an application runs again: the objects are others, and the handler is the same.
    inbox.once(message_id)(make("eu", object()))
    with pytest.raises(SetupError, match="Give each a name of its own"):
        inbox.once(message_id)(make("us", object()))


def test_a_session_that_commits_each_statement_is_refused(engine: sa.Engine, message_id: str) -> None:
    committing = Session(engine.execution_options(isolation_level="AUTOCOMMIT"))
    with committing, pytest.raises(TransactionStateError, match="AUTOCOMMIT"):
        inbox.receive(committing, message_id, "billing")
    with Session(engine) as session:
        assert inbox.receive(session, message_id, "billing")


def test_async_sessions_and_handlers(module_url: str, message_id: str) -> None:
    aio = pytest.importorskip("sqlalchemy.ext.asyncio")
    pytest.importorskip("greenlet", reason="AsyncSession needs greenlet: pip install 'signalbus[test]'")

    @inbox.once("async")
    async def handle(session: Any, message_id: str, word: str) -> str:
        await session.execute(sa.text("SELECT 1"))
        return word

    async def scenario() -> list[Any]:
        engine = aio.create_async_engine(module_url.replace("psycopg2", "psycopg"))
        told: list[Any] = []
        async with aio.AsyncSession(engine) as session:
            told.append(await session.run_sync(inbox.receive, message_id, "direct"))
            told.append(await session.run_sync(inbox.receive, message_id, "direct"))
            told.extend([await handle(session, message_id, "done"), await handle(session, message_id, "done")])
            with pytest.raises(SetupError, match="run_sync"):
                inbox.receive(session, message_id, "direct")
            await session.commit()
        await engine.dispose()
        return told

    assert asyncio.run(scenario()) == [True, False, "done", None]
    with pytest.raises(SetupError, match="AsyncSession"):
        asyncio.run(handle(object(), message_id, "done"))


def test_what_create_all_and_ddl_make_is_what_alembic_expects(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    metadata = sa.MetaData(schema="sales", info={"signalbus_inbox": "seen"})
    renamed = inbox.table(metadata)
    assert inbox.table(metadata) is renamed
    plain = sa.MetaData()
    inbox.table(plain)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA sales"))
        metadata.create_all(connection)
        for _ in range(2):
            connection.execute(sa.text(inbox.table_sql()))
        options = {"compare_type": True, "compare_server_default": True, "include_schemas": False}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), plain) == []
        set_to = connection.scalar(sa.text("SELECT reloptions FROM pg_class WHERE relname = 'signalbus_inbox'"))
        assert set_to == ["autovacuum_vacuum_scale_factor=0.05"]
    with Session(engine) as session:
        assert inbox.receive(session, "1", "billing", table=renamed)
        assert not inbox.receive(session, "1", "billing", table=renamed)
        assert inbox.receive(session, "1", "billing")
    engine.dispose()


def fill(engine: sa.Engine, rows: int) -> None:
    """An id for each hour, the newest of this moment."""
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO signalbus_inbox SELECT 'billing', 'hour-' || n, now() - n * interval '1 hour'"
                " FROM generate_series(0, :last) AS n"
            ),
            {"last": rows - 1},
        )


def test_cleaning_deletes_what_is_old_and_nothing_else(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    metadata = sa.MetaData()
    inbox.table(metadata)
    metadata.create_all(engine)
    assert inbox.clean(engine, 1) == 0
    fill(engine, 100)
    # The server's own default must not make cleaners fail each other.
    cleaners = [engine.execution_options(isolation_level="REPEATABLE READ") for _ in range(2)]
    with engine.connect() as reader:
        assert reader.scalar(sa.text("SELECT count(*) FROM signalbus_inbox")) == 100
        results = [in_thread(lambda one=one: inbox.clean(one, 2)) for one in cleaners]
        assert sum(result() for result in results) == 100 - 48
    with Session(engine) as session:
        assert not inbox.receive(session, "hour-47", "billing")
        assert inbox.receive(session, "hour-49", "billing")
    engine.dispose()


def test_cleaning_works_on_sqlite_too() -> None:
    engine = sa.create_engine("sqlite://")
    metadata = sa.MetaData()
    table = inbox.table(metadata)
    metadata.create_all(engine)
    with Session(engine) as session:
        assert inbox.receive(session, "1", "billing")
        assert inbox.receive(session, "2", "billing")
        session.execute(sa.update(table).where(table.c.message_id == "1").values(received_at=sa.text("'2020-01-01'")))
        session.commit()
    assert inbox.clean(engine, 30) == 1
    with Session(engine) as session:
        assert inbox.receive(session, "1", "billing")
        assert not inbox.receive(session, "2", "billing")
    engine.dispose()


@pytest.mark.parametrize("days", [0, -1, 1.5, "7", True, None, 36_501, float("nan")])
def test_a_number_of_days_that_is_none_is_refused(engine: sa.Engine, days: Any) -> None:
    with pytest.raises(SetupError, match="from 1 to 36500"):
        inbox.clean(engine, days)


#: Starts consumers one after the other, each of which kills itself at a step; then one that handles what is left.
CONSUMERS = """
import os, random, signal, sys
import pika, sqlalchemy as sa
from sqlalchemy.orm import Session
from signalbus_core import inbox

url, amqp_url, queue, kills, *steps = sys.argv[1:]

def consume(dies_at, messages):
    def at(step):
        nonlocal messages
        messages -= step == dies_at
        if not messages:
            os.kill(os.getpid(), signal.SIGKILL)

    engine = sa.create_engine(url)
    channel = pika.BlockingConnection(pika.URLParameters(amqp_url)).channel()
    channel.basic_qos(prefetch_count=10)
    for delivery, properties, body in channel.consume(queue, inactivity_timeout=5):
        if delivery is None:
            break
        at("delivered")
        with Session(engine) as session:
            if inbox.receive(session, properties.message_id, "killed"):
                at("recorded")
                session.execute(sa.text("INSERT INTO effect VALUES (:id)"), {"id": properties.message_id})
                at("worked")
            session.commit()
        at("committed")
        channel.basic_ack(delivery.delivery_tag)
        at("acknowledged")

for number in range(int(kills)):
    pid = os.fork()
    if not pid:
        try:
            consume(steps[number % len(steps)], random.randint(1, 3))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, number
consume("never", 1)
"""

#: How often a consumer is killed: 1,000 times by `make soak`.
KILLS = 20 * FACTOR


def test_fuzzed_kills_at_each_step_leave_one_effect_of_each_message(
    engine: sa.Engine, module_url: str, broker: Broker
) -> None:
    queue_name = broker.queue()
    ids = [f"killed-{uuid4()}" for _ in range(4 * KILLS)]
    with broker.channel as channel:
        for message_id in [*ids, *ids[::4]]:
            properties = BasicProperties(message_id=message_id, delivery_mode=2)
            channel.basic_publish("", queue_name, b"", properties=properties)
    steps = ("delivered", "recorded", "worked", "committed", "acknowledged")
    command = [sys.executable, "-c", CONSUMERS, module_url, broker.url, queue_name, str(KILLS), *steps]
    done = subprocess.run(command, env=os.environ, timeout=60 + 2 * KILLS, check=False)
    assert done.returncode == 0
    with engine.connect() as connection:
        effects = connection.scalars(sa.text("SELECT message_id FROM effect WHERE starts_with(message_id, 'killed')"))
        assert sorted(effects) == sorted(ids)
    assert broker.count(queue_name) == 0


def sa_properties(message_id: str) -> Any:
    from pika import BasicProperties

    return BasicProperties(message_id=message_id, delivery_mode=2)
