"""Private servers as durable as in production, the tables of the application, and relays beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
import psycopg2

from tests.support.guardian import guardian
from tests.support.postgres import PrivatePostgres
from tests.support.processes import RelayProcess
from tests.support.rabbitmq import PrivateRabbitMQ

from .consumer import Consumer
from .messages import ROUTING_KEY
from .places import ROOT
from .processes import cpu_seconds, peak_memory
from .settings import BURST_COUNT, WORKERS

#: The exchanges, each with a queue of its name and kind.
KINDS = ("classic", "quorum")

#: What differs from the defaults of PostgreSQL: a common size of its memory, and checkpoints so far apart that none of
#: them falls into one run and not into the next.
POSTGRES_SETTINGS = ("shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=30min", "log_line_prefix=<%a>")


@dataclass(frozen=True)
class Setup:
    """How relays are started.

    :param models: signal models of the application.
    :param key_columns: of the primary key; the tables must have as many.
    :param keep_days: for so many days what was sent is kept; 0: it is not.
    :param sender: ``rabbitmq``, ``nowhere`` (nothing is sent), ``slow`` (the first model's destination is), ``ordered``
      (in the order of its key; the tables must be made for it).
    """

    kind: str = "classic"
    processes: int = 1
    workers: int = WORKERS
    models: int = 1
    burst_count: int = BURST_COUNT
    sender: str = "rabbitmq"
    key_columns: int = 1
    keep_days: int = 0
    arguments: tuple[str, ...] = ("--poll-interval", "0.1")


@dataclass(frozen=True)
class Spent:
    """Processor time and log volume between two moments."""

    seconds: float
    relay: float
    postgres: float
    broker: float
    wal_bytes: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, name) - getattr(other, name) for name in Spent.__dataclass_fields__))

    def figures(self, count: int) -> dict[str, float]:
        """What one signal takes of it."""
        return {
            "rate": count / self.seconds,
            "relay_us": self.relay / count * 1e6,
            "postgres_us": self.postgres / count * 1e6,
            "broker_us": self.broker / count * 1e6,
            "wal_bytes": self.wal_bytes / count,
        }


class World:
    """A database and a broker, made for one benchmark and gone after it."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="signalbus-bench-", dir="/tmp"))
        guardian.watch("directory", str(self.directory))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.postgres = self._stack.enter_context(PrivatePostgres(fsync=True, settings=POSTGRES_SETTINGS)).start()
        self.rabbitmq = self._stack.enter_context(PrivateRabbitMQ()).start()
        self.database_url = self.postgres.create_database()
        self._connection: Any = self.connect()
        self._stack.callback(self._connection.close)
        self._declare()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # The database

    def connect(self) -> Any:
        """A connection of its own, which commits each statement."""
        connection = psycopg2.connect(self.database_url.replace("+psycopg2", ""))
        connection.autocommit = True
        return connection

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def fill(self, count: int, body_bytes: int = 200, models: int = 1, first: int = 1) -> None:
        """Write signals, the same number to each model, in one transaction; it commits when they are all there."""
        self.execute("BEGIN")
        for number in range(models):
            self.execute(
                f"INSERT INTO signal_{number} (id, body) SELECT n, repeat('x', %s) FROM generate_series(%s, %s) n",
                body_bytes,
                first,
                first - 1 + count // models,
            )
        self.execute("COMMIT")

    def clean(self, models: int = 1) -> None:
        """Empty tables and queues, so that each run finds the same."""
        self.execute(f"TRUNCATE {', '.join(f'signal_{number}' for number in range(models))}")
        # What is written back later would fall into another run.
        self.execute("CHECKPOINT")
        with self._channel() as channel:
            for kind in KINDS:
                channel.queue_purge(kind)

    def is_empty(self, models: int = 1) -> bool:
        # The highest key is found at once; looking for any row would walk over all that are deleted.
        highest = [f"(SELECT max(id) FROM signal_{number})" for number in range(models)]
        return self.execute(f"SELECT coalesce({', '.join(highest)}, 0)") == [(0,)]

    def wait_until_empty(self, models: int = 1, timeout_seconds: float = 300) -> None:
        deadline, tick = time.monotonic() + timeout_seconds, threading.Event()
        while not self.is_empty(models):
            if time.monotonic() > deadline:
                raise TimeoutError("signals are left")
            tick.wait(0.01)

    # Relays and consumers

    @contextlib.contextmanager
    def relays(self, setup: Setup) -> Iterator[list[RelayProcess]]:
        """Relay processes that have sent a first burst each, and wait."""
        environ = {
            "PYTHONPATH": str(ROOT),
            "BENCH_DATABASE_URL": self.database_url + "?application_name=relay",
            "BENCH_AMQP_URL": self.rabbitmq.url,
            "BENCH_EXCHANGE": setup.kind,
            "BENCH_MODELS": str(setup.models),
            "BENCH_BURST_COUNT": str(setup.burst_count),
            "BENCH_SENDER": setup.sender,
            "BENCH_KEY_COLUMNS": str(setup.key_columns),
            "BENCH_KEEP_DAYS": str(setup.keep_days),
        }
        arguments = ("--app", "tests.benchmarks.application:create_app", "--workers", str(setup.workers))
        with contextlib.ExitStack() as stack:
            started = [
                stack.enter_context(RelayProcess(self.directory, *arguments, *setup.arguments, environ=environ))
                for _ in range(setup.processes)
            ]
            for relay in started:
                relay.wait_ready(60)
            self.fill(min(200, setup.burst_count) * setup.workers * setup.processes * 2, models=setup.models)
            self.wait_until_empty(setup.models)
            self.clean(setup.models)
            yield started

    @contextlib.contextmanager
    def consumer(self, kind: str, *, wanted: bool = True) -> Iterator[None]:
        """A consumer of the queue of this kind, where one is wanted."""
        if wanted:
            with Consumer(self.rabbitmq.url, kind):
                yield
        else:
            yield

    def spent(self, relays: list[RelayProcess]) -> Spent:
        """What was spent until now."""
        [(position,)] = self.execute("SELECT pg_current_wal_lsn() - '0/0'")
        return Spent(
            time.perf_counter(),
            cpu_seconds(relay.pid for relay in relays),
            cpu_seconds([self.postgres.pid]),
            cpu_seconds([self.rabbitmq.pid]),
            float(position),
        )

    def drain(self, relays: list[RelayProcess], count: int, body_bytes: int = 200, models: int = 1) -> Spent:
        """Commit so many signals at once, and wait until the last is gone; return what that took."""
        self.clean(models)
        return self.drain_more(relays, count, body_bytes, models)

    def drain_more(
        self, relays: list[RelayProcess], count: int, body_bytes: int = 200, models: int = 1, first: int = 1
    ) -> Spent:
        """The same, in tables and queues as they are."""
        self.fill(count, body_bytes, models, first)
        before = self.spent(relays)
        self.wait_until_empty(models)
        return self.spent(relays) - before

    def wait_until_sent(self, key: int, timeout_seconds: float = 300) -> None:
        """Wait until the signal with this key, and so about all before it, are gone."""
        deadline, tick = time.monotonic() + timeout_seconds, threading.Event()
        while self.execute("SELECT 1 FROM signal_0 WHERE id = %s", key):
            if time.monotonic() > deadline:
                raise TimeoutError(f"signal {key} is left")
            tick.wait(0.005)

    @contextlib.contextmanager
    def logging_statements(self) -> Iterator[None]:
        """Sessions that begin in the block have their statements logged."""
        name = self.database_url.rsplit("/", 1)[1]
        self.postgres.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")
        try:
            yield
        finally:
            self.postgres.execute(f"ALTER DATABASE {name} RESET log_statement")

    def peak_memory(self, relays: list[RelayProcess]) -> float:
        return peak_memory(relay.pid for relay in relays)

    # The broker

    def _channel(self) -> Any:
        connection = pika.BlockingConnection(pika.URLParameters(self.rabbitmq.url))
        return _closing(connection)

    def _declare(self) -> None:
        with self._channel() as channel:
            for kind in KINDS:
                channel.exchange_declare(kind, "direct", durable=True)
                channel.queue_declare(kind, durable=True, arguments={"x-queue-type": kind})
                channel.queue_bind(kind, kind, ROUTING_KEY)
        self.create_tables(50)

    def create_tables(self, models: int, *, key_columns: int = 1, sender: str = "rabbitmq") -> None:
        """Tables with doorbells, as the application's own ``create_all`` makes them, in the place of those before."""
        for number in range(models):
            self.execute(f"DROP TABLE IF EXISTS signal_{number}")
        with environ(
            BENCH_DATABASE_URL=self.database_url,
            BENCH_AMQP_URL=self.rabbitmq.url,
            BENCH_MODELS=str(models),
            BENCH_KEY_COLUMNS=str(key_columns),
            BENCH_SENDER=sender,
        ):
            from .application import create_app

            app = create_app()
        with app.app_context():
            db = app.extensions["sqlalchemy"]
            db.create_all()
            db.engine.dispose()


def metric(relay: RelayProcess, name: str) -> float:
    """The sum of a metric's series."""
    with urllib.request.urlopen(f"http://127.0.0.1:{relay.port}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " ")))


@contextlib.contextmanager
def _closing(connection: Any) -> Iterator[Any]:
    try:
        yield connection.channel()
    finally:
        connection.close()


@contextlib.contextmanager
def environ(**values: str) -> Iterator[None]:
    """The environment with these variables, for the time of the block."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
