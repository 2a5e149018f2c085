"""The world that faults happen to: private servers, two relays behind proxies, and a writer and a consumer beside them.

Everything but the relays goes to the servers directly, so that it sees what is true while the relays see the fault.
The world is kept from one fault to the next: what a fault leaves behind, the next one meets.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pika
import psycopg2
from pika.exceptions import AMQPError

from tests.support import prefork
from tests.support.broker import taken
from tests.support.guardian import guardian
from tests.support.postgres import PrivatePostgres
from tests.support.proxy import FaultProxy
from tests.support.rabbitmq import PrivateRabbitMQ
from tests.support.waiting import eventually

from .accounts import Accounts
from .fault import RELAYS
from .ledger import Expected, Ledger
from .relays import Relay
from .writer import Writers, insert_in_order, insert_scheduled, insert_signals

EXCHANGE = "faults"
LOGIN, SECRET = "relay", "open-sesame-of-the-relays"

#: A crash of the database must keep what it said was committed; the machine itself does not crash here.
DATABASE_SETTINGS = ("synchronous_commit=on", "full_page_writes=on", "log_min_messages=fatal")

#: Small, so that a signal can be too big for the broker.
BROKER_SETTINGS = ("max_message_size = 65536",)

QUEUES = {"classic": {}, "quorum": {"x-queue-type": "quorum"}}

#: The tables of the signals.
TABLES = ("signal", "neighbour", "keyed", "scheduled")

#: The numbers of the signals that are to be sent.
PENDING = " UNION ALL ".join(f"SELECT number FROM {table}" for table in TABLES)

MIGRATION = """
    CREATE TABLE business (number bigint PRIMARY KEY, account int, place bigserial, due timestamptz);
    CREATE TABLE holder (signal_id bigint REFERENCES neighbour);
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN IF OLD.kind = ''kept'' THEN RETURN NULL; END IF; RETURN OLD; END';
    CREATE TRIGGER keep BEFORE DELETE ON neighbour FOR EACH ROW EXECUTE FUNCTION keep();
"""


class World:
    """Servers, proxies, relays and what is known of their signals."""

    #: The queues, by their routing keys, and how they are declared.
    queues: Mapping[str, dict[str, str]] = QUEUES

    def __init__(self) -> None:
        # What pika logs about connections that were broken on purpose would bury everything else.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self.stack = contextlib.ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix=f"signalbus-{os.getpid()}-faults-", dir="/tmp"))
        guardian.watch("directory", str(self.directory))
        shutil.copy(Path(__file__).with_name("application.py"), self.directory)
        self.relays: list[Relay] = []
        self.ledger = Ledger()
        self.committed: set[int] = set()
        self._numbers = itertools.count(1)
        self._names = itertools.count(1)
        self._first = 1
        self.writer: Writers | None = None
        self.accounts: Accounts | None = None
        self._session: Any = None
        self.burst_bytes: dict[tuple[str, str], int] = {}
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _build(self) -> None:
        self.postgres = self.stack.enter_context(PrivatePostgres(settings=DATABASE_SETTINGS)).start()
        self.rabbitmq = self.stack.enter_context(PrivateRabbitMQ(settings=BROKER_SETTINGS)).start()
        self.database_proxy = self.stack.enter_context(FaultProxy("127.0.0.1", self.postgres.port))
        self.broker_proxy = self.stack.enter_context(FaultProxy("127.0.0.1", self.rabbitmq.port))
        self.environ = {
            "TEST_DATABASE_URL": f"postgresql+psycopg2://{LOGIN}@127.0.0.1:{self.database_proxy.port}/faults",
            "TEST_AMQP_URL": f"amqp://{LOGIN}:{SECRET}@127.0.0.1:{self.broker_proxy.port}/%2F?heartbeat=2",
        }
        self.database_ports, self.broker_ports = {self.database_proxy.port}, {self.broker_proxy.port}
        self._prepare_broker()
        self._prepare_database()
        self.prepare()
        self._measure_a_burst()

    def _prepare_broker(self) -> None:
        user = f'rabbit_auth_backend_internal:add_user(<<"{LOGIN}">>, <<"{SECRET}">>, <<"tests">>)'
        self.rabbitmq.eval(f"{user}, {permissions('.*')}")
        with self.channel() as channel:
            channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
            for key in self.queues:
                self.declare_queue(channel, key)

    def declare_queue(self, channel: Any, key: str) -> None:
        channel.queue_declare(key, durable=True, arguments=self.queues[key])
        channel.queue_bind(key, EXCHANGE, key)

    def _prepare_database(self) -> None:
        self.postgres.execute(f"CREATE ROLE {LOGIN} LOGIN")
        self.postgres.execute(f"CREATE DATABASE faults OWNER {LOGIN}")
        prefork.run(["python", "application.py"], os.environ | self.environ, self.directory).check_returncode()
        self.sql(MIGRATION)

    def _measure_a_burst(self) -> None:
        """How many bytes a burst of full size moves, for each server and direction."""
        proxies = {"database": self.database_proxy, "broker": self.broker_proxy}
        before = {(name, line): _bytes(proxy, line) for name, proxy in proxies.items() for line in ("server", "client")}
        self.write(50)
        self.wait_until_sent()
        for (name, line), count in before.items():
            self.burst_bytes[name, line] = _bytes(proxies[name], line) - count
        self.end_fault()

    # The database, as the application sees it

    @property
    def dsn(self) -> str:
        return (
            f"host=127.0.0.1 port={self.postgres.port} user=postgres dbname=faults "
            "options='-c default_transaction_read_only=off -c lock_timeout=20s'"
        )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor in a transaction that is committed at the end."""
        connection = psycopg2.connect(self.dsn, connect_timeout=5)
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def sql(self, statement: str, *parameters: object) -> list[Any]:
        with self.transaction() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def ask(self, question: str, *parameters: object) -> list[Any]:
        """The answer to a question that is asked many times, over a session that is kept as long as it lasts."""
        for session in (self._session, None):
            if session is None:
                session = self._session = psycopg2.connect(self.dsn, connect_timeout=5)
                session.autocommit = True
            try:
                with session.cursor() as cursor:
                    cursor.execute(question, parameters or None)
                    return list(cursor.fetchall())
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if not session.closed:
                    raise
        raise AssertionError("the database ends each session")

    def promote(self, standby: PrivatePostgres) -> None:
        """What reached the primary reaches this server from now on."""
        self.postgres.close()
        self.postgres = standby
        self.database_proxy.retarget(standby.port)
        eventually(lambda: not standby.execute("SELECT pg_is_in_recovery()")[0][0], 30, "it is a primary")

    def write(
        self, number: int, keys: Sequence[str] = (), kind: str = "good", table: str = "signal", also: str = ""
    ) -> list[int]:
        """Write signals; return their numbers.

        :param also: a statement about the signals in ``%s``, in the same transaction.
        """
        numbers = list(itertools.islice(self._numbers, number))
        with self.transaction() as cursor:
            insert_signals(cursor, numbers, keys or tuple(self.queues), kind, table)
            if also:
                cursor.execute(also, (numbers,))
        return numbers

    def write_others(self) -> list[int]:
        """Write a keyed signal and a scheduled one; return their numbers."""
        numbers, keys, chance = list(itertools.islice(self._numbers, 2)), tuple(self.queues), random.Random(0)
        with self.transaction() as cursor:
            insert_in_order(cursor, numbers[:1], chance, keys)
            insert_scheduled(cursor, numbers[1:], chance, keys)
        return numbers

    def left(self, numbers: Sequence[int] | None = None) -> int:
        """How many signals are in their tables, of all or of these."""
        all_of_them = f"SELECT count(*) FROM ({PENDING}) AS pending"
        if numbers is None:
            return int(self.ask(all_of_them)[0][0])
        return int(self.ask(f"{all_of_them} WHERE number = ANY(%s)", list(numbers))[0][0])

    def wait_until_sent(self, numbers: Sequence[int] | None = None, timeout_seconds: float = 60) -> None:
        eventually(lambda: self.left(numbers) == 0, timeout_seconds, "the signals are sent", every_seconds=0.05)

    def sessions(self) -> int:
        """How many sessions the relays have."""
        return int(
            self.ask("SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND pid <> pg_backend_pid()", LOGIN)[0][
                0
            ]
        )

    def end_sessions(self) -> None:
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", LOGIN)

    def bursts_in_flight(self) -> int:
        """How many transactions hold signals locked."""
        return int(
            self.ask(
                "SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
                "WHERE a.usename = %s AND l.mode = 'RowShareLock' AND l.relation = ANY(%s::regclass[])",
                LOGIN,
                list(TABLES),
            )[0][0]
        )

    # The broker, as the consumer sees it

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        connection = pika.BlockingConnection(pika.URLParameters(self.rabbitmq.url))
        try:
            yield connection.channel()
        finally:
            with contextlib.suppress(AMQPError):
                connection.close()

    def take(self, *queues: str) -> None:
        """Take all messages out of the queues, and note them."""
        with self.channel() as channel:
            for queue in queues or self.queues:
                self.ledger.arrived(self._bodies(channel, queue))

    def _bodies(self, channel: Any, queue: str) -> Iterator[int]:
        for _, properties, body in taken(channel, queue):
            yield self.ledger.identified(int(body), properties.message_id, built_at(properties))

    # Failpoints

    def arm(self, place: str, action: str) -> None:
        """Have the next relay that reaches a place do something to itself."""
        fresh = self.directory / "fresh"
        fresh.write_text(action)
        fresh.rename(self.directory / f"failpoint-{place}")

    def disarm(self, place: str) -> None:
        (self.directory / f"failpoint-{place}").unlink(missing_ok=True)
        for reached in self.directory.glob(f"reached-{place}-*"):
            with contextlib.suppress(FileNotFoundError):
                reached.unlink()

    def reached(self, place: str) -> list[int]:
        """The relays' processes that are at an armed place; one entry for each thread."""
        return [int(path.name.split("-")[2]) for path in self.directory.glob(f"reached-{place}-*")]

    @contextlib.contextmanager
    def hanging(self, place: str) -> Iterator[list[Relay]]:
        """All bursts in flight wait at a place, and at least one is there."""
        self.arm(place, "hang")
        try:
            eventually(lambda: self.reached(place), 30, f"a burst at {place}")
            yield [relay for relay in self.relays if relay.pid in self.reached(place)]
        finally:
            self.disarm(place)

    # Relays

    def start_relay(self) -> Relay:
        relay = Relay(
            f"relay-{next(self._names)}",
            self.directory,
            self.environ,
            self.database_ports,
            self.broker_ports,
        )
        self.relays.append(relay)
        return relay

    def dead(self) -> list[Relay]:
        return [relay for relay in self.relays if not relay.is_running]

    def living(self) -> list[Relay]:
        return [relay for relay in self.relays if relay.is_running]

    def wait_ready(self, timeout_seconds: float = 60) -> None:
        eventually(
            lambda: all(relay.says() == "ready" for relay in self.living()), timeout_seconds, "all relays are ready"
        )

    def prepare(self) -> None:
        """Two relays, ready and warm: their levels are known."""
        for relay in self.dead():
            relay.close()
            self.relays.remove(relay)
        while len(self.relays) < RELAYS:
            self.start_relay()
        for relay in self.relays:
            if relay.level is None:
                eventually(lambda relay=relay: _is_warm(relay), 60, f"{relay.name} is connected", every_seconds=0.05)
                relay.level = relay.measure()

    # One fault

    def begin_fault(self, chance: random.Random) -> None:
        self.writer = Writers(lambda: self.dsn, self._numbers, chance, tuple(self.queues))
        self.writer.start()
        self.accounts = Accounts(lambda: self.dsn, self._first, TABLES)

    def stop_writing(self) -> None:
        if self.writer is not None:
            writer, self.writer = self.writer, None
            writer.stop()
            self.ledger.rolled_back += writer.rolled_back

    def end_fault(self, calm_since: float = float("inf")) -> Any:
        """Take what has arrived; return the figures.

        :param calm_since: from then on scheduled signals had to be sent at their time.
        """
        if self.accounts is not None:
            self.accounts.stop()
            self.ledger.at_moments += self.accounts.problems(self.ledger.withdrawn)
            self.accounts = None
        self.take()
        expected = Expected(calm_since=calm_since)
        committed = set()
        rows = self.sql(
            "SELECT number, account, place, extract(epoch FROM due) FROM business WHERE number >= %s", self._first
        )
        for number, account, place, due in rows:
            committed.add(number)
            if account is not None:
                expected.places[number] = (account, place)
            if due is not None:
                expected.due[number] = float(due)
        self.ledger.unaccounted = committed - self.accounted()
        figures = self.ledger.figures(committed, self.committed, expected)
        self.committed |= committed
        self._first = max(committed, default=self._first - 1) + 1
        self.ledger = Ledger(self.ledger.ids)
        return figures

    def accounted(self) -> set[int]:
        """The signals that are still to be sent, and those that the history has."""
        return {
            row[0]
            for row in self.sql(f"{PENDING} UNION ALL SELECT CAST(row ->> 'number' AS bigint) FROM signalbus_sent")
        }

    def start_again(self) -> None:
        """After a failed check: nothing is left of it."""
        with contextlib.suppress(TimeoutError):
            self.stop_writing()
        for marker in (*self.directory.glob("failpoint-*"), *self.directory.glob("reached-*")):
            marker.unlink(missing_ok=True)
        self._heal()
        for relay in self.relays:
            relay.close()
        self.sql(f"TRUNCATE {', '.join(TABLES)}, holder, signalbus_parked")
        self.end_fault()
        self.prepare()

    def _heal(self) -> None:
        """The network is as it was."""
        for proxy in (self.database_proxy, self.broker_proxy):
            proxy.forward()
            proxy.delay(0)
            proxy.limit(None)

    def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            self.stop_writing()
        if self.accounts is not None:
            self.accounts.stop()
        for relay in self.relays:
            relay.close()
        if self._session is not None:
            self._session.close()
        self.stack.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        guardian.release("directory", str(self.directory))


def built_at(properties: Any) -> float:
    """When a message was built."""
    return float(properties.headers["built_at"])


def permissions(write: str) -> str:
    """What gives the relays' login the right to publish to the exchanges that a pattern matches."""
    return (
        f'rabbit_auth_backend_internal:set_permissions(<<"{LOGIN}">>, <<"/">>, <<".*">>, <<"{write}">>, <<".*">>, '
        '<<"tests">>).'
    )


def _is_warm(relay: Relay) -> bool:
    """Whether it is ready, and all its workers are connected to the broker."""
    if not relay.is_running:
        raise AssertionError(f"{relay.name} has ended:\n{relay.new_output()}")
    return relay.says() == "ready" and len(relay.broker_sockets()) == 2


def _bytes(proxy: FaultProxy, line: str) -> int:
    return proxy._lines["to_server" if line == "server" else "to_client"].bytes_forwarded
