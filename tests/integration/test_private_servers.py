"""The servers that tests start: private, and gone with their owner, however it ends. And the proxy in front of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.support.postgres import PrivatePostgres
from tests.support.proxy import FaultProxy
from tests.support.proxy_link import Direction
from tests.support.rabbitmq import PrivateRabbitMQ
from tests.support.servers import Postgres
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]

OWNER = """
import threading
from tests.support.pgbouncer import PrivatePgBouncer
from tests.support.postgres import PrivatePostgres
from tests.support.rabbitmq import PrivateRabbitMQ
with PrivatePostgres() as postgres, PrivateRabbitMQ() as rabbitmq, PrivatePgBouncer(postgres) as bouncer:
    postgres.start(), rabbitmq.start(), bouncer.start()
    print(postgres.directory, rabbitmq.directory, bouncer.directory, flush=True)
    print(postgres.port, rabbitmq.port, rabbitmq.epmd_port, bouncer.port, flush=True)
    threading.Event().wait()
"""


def listens(port: int) -> bool:
    with socket.socket() as poller:
        return poller.connect_ex(("127.0.0.1", port)) == 0


def processes_using(directory: str) -> list[str]:
    listing = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if directory in line]


def test_nothing_is_left_behind_when_the_owner_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        directories = owner.stdout.readline().split()
        ports = [int(port) for port in owner.stdout.readline().split()]
        assert (len(directories), len(ports)) == (3, 4)
        assert all(listens(port) for port in ports)
        assert all(processes_using(directory) for directory in directories)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    eventually(lambda: not any(processes_using(directory) for directory in directories), 20)
    eventually(lambda: not any(os.path.exists(directory) for directory in directories), 20)
    eventually(lambda: not any(listens(port) for port in ports), 20)


def test_nothing_listens_after_a_node_was_closed() -> None:
    with PrivateRabbitMQ() as server:
        server.start()
        ports = [server.port, server.epmd_port]
        assert all(listens(port) for port in ports)
    assert not any(listens(port) for port in ports)


def test_a_killed_postgres_can_be_started_again_at_once() -> None:
    with PrivatePostgres() as server:
        server.start()
        for _ in range(2):
            server.kill9()
            server.start()
        assert server.execute("SELECT 1") == [(1,)]


def test_no_process_of_a_killed_postgres_keeps_it_from_starting() -> None:
    with PrivatePostgres() as server:
        server.start()
        with contextlib.closing(psycopg2.connect(server.url.replace("+psycopg2", ""))) as connection:
            # It does not notice that its first process has ended, and has the shared memory still.
            os.kill(connection.info.backend_pid, signal.SIGSTOP)
            server.kill9()
            server.start()
        assert server.execute("SELECT 1") == [(1,)]


def test_a_paused_postgres_does_not_answer_until_it_is_resumed() -> None:
    with PrivatePostgres() as server:
        server.start()
        server.pause()
        with pytest.raises(psycopg2.OperationalError, match="timeout"):
            psycopg2.connect(host="127.0.0.1", port=server.port, user="postgres", connect_timeout=2)
        server.resume()
        assert server.execute("SELECT 1") == [(1,)]


# The proxy


class Echo(socketserver.BaseRequestHandler):
    """Sends everything back, and remembers it."""

    def handle(self) -> None:
        heard = self.server.heard  # type: ignore[attr-defined]
        while data := self.request.recv(65536):
            heard.extend(data)
            # A client that was cut wants no answer; what it sent before is still read.
            with contextlib.suppress(OSError):
                self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.heard = bytearray()

    def handle_error(self, *_: object) -> None:
        """Connections that are cut are no news here."""


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[FaultProxy]:
    with FaultProxy(*echo.server_address) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        client.sendall(b"hello")
        assert read(client, 5) == b"hello"
        yield client


def read(client: socket.socket, size: int) -> bytes:
    """Read so many bytes, or as many as come before the connection is cut."""
    data = b""
    try:
        while len(data) < size and (part := client.recv(size - len(data))):
            data += part
    except ConnectionResetError:
        pass
    return data


def is_cut(client: socket.socket) -> bool:
    return read(client, 1) == b""


def is_silent(client: socket.socket) -> bool:
    """Nothing can be read from it, and it is open."""
    client.settimeout(0.1)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    else:
        return False
    finally:
        client.settimeout(20)


def test_line_stalled_to_server_holds_back_what_is_asked(
    proxy: FaultProxy, echo: EchoServer, client: socket.socket
) -> None:
    proxy.stall("to_server")
    client.sendall(b"again")
    assert is_silent(client)
    assert echo.heard == b"hello"
    proxy.forward()
    assert read(client, 5) == b"again"


def test_line_stalled_to_client_holds_back_what_is_answered(
    proxy: FaultProxy, echo: EchoServer, client: socket.socket
) -> None:
    proxy.stall("to_client")
    client.sendall(b"again")
    eventually(lambda: echo.heard == b"helloagain")
    assert is_silent(client)
    proxy.forward()
    assert read(client, 5) == b"again"


def stall_one_after_the_other(proxy: FaultProxy) -> None:
    proxy.stall("to_server")
    proxy.stall("to_client")


@pytest.mark.parametrize("hold", [FaultProxy.stall, FaultProxy.blackhole, stall_one_after_the_other])
def test_line_stalled_both_ways_moves_nothing_and_stays_open(
    proxy: FaultProxy, echo: EchoServer, client: socket.socket, hold: Callable[[FaultProxy], None]
) -> None:
    hold(proxy)
    client.sendall(b"again")
    assert is_silent(client)
    assert echo.heard == b"hello"
    proxy.forward()
    assert read(client, 5) == b"again"


def test_a_refusing_proxy_resets_old_and_new_connections(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.refuse()
    assert is_cut(client)
    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as other,
    ):
        other.recv(1)


def test_a_limited_line_takes_its_time_and_loses_nothing(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.limit(40_000)
    started = time.monotonic()
    client.sendall(b"x" * 20_000)
    assert read(client, 20_000) == b"x" * 20_000
    # Half a second for the bytes there, and meanwhile the same for the bytes back.
    assert time.monotonic() - started > 0.4
    proxy.limit(None)
    client.sendall(b"y" * 1_000_000)
    assert read(client, 1_000_000) == b"y" * 1_000_000


@pytest.mark.parametrize("number_of_bytes", [0, 3, 100_000])
def test_a_cut_to_the_server_lets_exactly_so_many_bytes_through(
    proxy: FaultProxy, echo: EchoServer, client: socket.socket, number_of_bytes: int
) -> None:
    proxy.cut_after(number_of_bytes)
    client.sendall(b"x" * (number_of_bytes + 10))
    read(client, number_of_bytes + 10)
    assert is_cut(client)
    eventually(lambda: len(echo.heard) == 5 + number_of_bytes)
    assert proxy.bytes_forwarded == 5 + number_of_bytes


@pytest.mark.parametrize("number_of_bytes", [0, 3, 100_000])
def test_a_cut_to_the_client_lets_exactly_so_many_bytes_through(
    proxy: FaultProxy, client: socket.socket, number_of_bytes: int
) -> None:
    proxy.cut_after(number_of_bytes, to="client")
    client.sendall(b"x" * (number_of_bytes + 10))
    assert len(read(client, number_of_bytes + 10)) == number_of_bytes
    assert is_cut(client)


def test_a_cut_at_certain_bytes_comes_before_they_go_on(
    proxy: FaultProxy, echo: EchoServer, client: socket.socket
) -> None:
    happened = proxy.on_data("to_server", b"COMMIT", "cut")
    client.sendall(b"DELETE")
    assert read(client, 6) == b"DELETE"
    assert not happened.is_set()
    client.sendall(b"now COMMIT")
    assert is_cut(client)
    assert happened.is_set()
    assert echo.heard == b"helloDELETE"


def test_bytes_are_found_also_when_they_come_in_pieces(proxy: FaultProxy, client: socket.socket) -> None:
    happened = proxy.on_data("to_server", b"COMMIT", "cut")
    for piece in (b"COM", b"M", b"I"):
        client.sendall(piece)
        assert read(client, len(piece)) == piece
    assert not happened.is_set()
    client.sendall(b"T")
    assert is_cut(client)
    assert happened.is_set()


def test_only_the_connection_of_the_bytes_is_cut_and_only_once(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.on_data("to_server", b"COMMIT", "cut")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as other:
        other.sendall(b"COMMIT")
        assert is_cut(other)
    client.sendall(b"COMMIT")
    assert read(client, 6) == b"COMMIT"


def test_a_lost_answer_was_given_and_never_arrives(proxy: FaultProxy, echo: EchoServer, client: socket.socket) -> None:
    proxy.on_data("to_server", b"COMMIT", "lose_answer")
    client.sendall(b"COMMIT")
    assert is_cut(client)
    assert echo.heard == b"helloCOMMIT"


@pytest.mark.parametrize(("direction", "heard"), [("to_server", b"hello"), ("to_client", b"helloCOMMIT")])
def test_a_callable_is_called_while_the_bytes_wait(
    proxy: FaultProxy, echo: EchoServer, client: socket.socket, direction: Direction, heard: bytes
) -> None:
    heard_then: list[bytes] = []
    proxy.on_data(direction, b"COMMIT", lambda: heard_then.append(bytes(echo.heard)))
    client.sendall(b"COMMIT")
    assert read(client, 6) == b"COMMIT"
    assert heard_then == [heard]


def test_a_callable_may_turn_the_proxy_to_something_else(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.on_data("to_server", b"COMMIT", proxy.refuse)
    client.sendall(b"COMMIT")
    assert is_cut(client)


def test_a_callable_that_fails_is_not_overlooked(echo: EchoServer) -> None:
    proxy = FaultProxy(*echo.server_address)
    proxy.on_data("to_server", b"COMMIT", lambda: 1 / 0)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        client.sendall(b"COMMIT")
        assert is_cut(client)
    with pytest.raises(ZeroDivisionError):
        proxy.close()


#: What tests leave in a database, in its schemas.
LEFT_IN_SCHEMAS = """
    CREATE TABLE orders (id serial PRIMARY KEY); INSERT INTO orders DEFAULT VALUES;
    CREATE SCHEMA "Other Place"; CREATE TYPE "Other Place".state AS ENUM ('new');
    CREATE TABLE "Other Place".t (s "Other Place".state);
    CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON SCHEMA public FROM PUBLIC;
    SELECT pg_advisory_lock(1)
"""

#: What does not go with the schemas.
LEFT_BESIDE_SCHEMAS = (
    "SELECT lo_create(0)",
    "CREATE PUBLICATION left_over",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "CREATE FOREIGN DATA WRAPPER left_over",
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$",
    "DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$",
)

CONTENTS = """
    SELECT nspname::text, pg_get_userbyid(nspowner)::text, nspacl::text, obj_description(oid, 'pg_namespace')
    FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL SELECT proname::text, '', '', '' FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT relname::text, '', '', '' FROM pg_class WHERE oid >= 16384
    UNION ALL SELECT 'session', '', '', '' FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend'
    UNION ALL SELECT 'lock', '', '', '' FROM pg_locks JOIN pg_database d ON d.oid = database
        WHERE locktype = 'advisory' AND datname = current_database()
    ORDER BY 1
"""


def connected(url: str) -> contextlib.AbstractContextManager[psycopg2.extensions.connection]:
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    connection.autocommit = True
    return contextlib.closing(connection)


def asked(url: str, statement: str) -> list[tuple[object, ...]]:
    with connected(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_a_database_that_is_lent_again_is_as_a_new_one(postgres: Postgres) -> None:
    new = asked(postgres.create_database(), CONTENTS)
    with postgres.lend_database() as url:
        oid = asked(url, "SELECT oid FROM pg_database WHERE datname = current_database()")
        forgotten = psycopg2.connect(url.replace("+psycopg2", ""))
        forgotten.cursor().execute(LEFT_IN_SCHEMAS)
        forgotten.commit()
        assert asked(url, CONTENTS) != new
    with contextlib.closing(forgotten), postgres.lend_database() as again:
        assert asked(again, "SELECT oid FROM pg_database WHERE datname = current_database()") == oid
        assert asked(again, CONTENTS) == new
        with pytest.raises(psycopg2.OperationalError, match="does not exist"):
            asked(url, "SELECT 1")


def test_a_database_that_cannot_be_emptied_is_not_lent_again(postgres: Postgres) -> None:
    known = set()
    for statement in LEFT_BESIDE_SCHEMAS:
        with postgres.lend_database() as url:
            [oid] = asked(url, "SELECT oid FROM pg_database WHERE datname = current_database()")
            assert oid not in known
            known.add(oid)
            asked(url, statement)
    with postgres.lend_database() as url:
        left = asked(url, "SELECT oid FROM pg_database")
        assert known.isdisjoint(left)
