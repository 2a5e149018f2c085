"""The HTTP server, over real sockets: what it lets in, what it cuts off, and how it ends."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from collections.abc import Callable, Iterable, Iterator

import pytest

from relay.config.resolve import ConfigError
from relay.web.server import MOST_CONNECTIONS, HttpServer, most_connections
from tests.support.waiting import eventually
from tests.support.web import ask


def hello(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answers with the length of the body."""
    length = len(environ["wsgi.input"].read())  # type: ignore[attr-defined]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(length).encode()]


@pytest.fixture
def server() -> Iterator[HttpServer]:
    server = HttpServer(hello, "127.0.0.1", 0)
    server.start()
    yield server
    server.close()


@pytest.fixture
def impatient() -> Iterator[HttpServer]:
    """A server that waits one second for the whole of a request."""
    server = HttpServer(hello, "127.0.0.1", 0, channel_timeout=1, cleanup_interval=0)
    server.start()
    yield server
    server.close()


def client_of(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=5)


def is_cut_off(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_two_hundred_half_open_clients_hold_up_nobody(server: HttpServer) -> None:
    clients = [client_of(server) for _ in range(200)]
    try:
        for client in clients:
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n")
        assert ask(server.port, "/livez").status == 200
    finally:
        for client in clients:
            client.close()


def test_clients_that_never_take_their_answers_hold_up_nobody(server: HttpServer) -> None:
    clients = [client_of(server) for _ in range(20)]
    try:
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        assert ask(server.port, "/livez").status == 200
    finally:
        for client in clients:
            client.close()


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(impatient: HttpServer) -> None:
    with client_of(impatient) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")

        def drip() -> bool:
            client.setblocking(True)
            try:
                client.sendall(b"a")
            except OSError:
                return True
            return is_cut_off(client)

        eventually(drip, 15, "the slow client is cut off", every_seconds=0.1)


def test_a_client_whose_body_never_comes_is_cut_off(impatient: HttpServer) -> None:
    with client_of(impatient) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab")
        eventually(lambda: is_cut_off(client), 15, "the waiting client is cut off", every_seconds=0.1)


def test_a_client_that_asks_again_and_again_is_not_cut_off(impatient: HttpServer) -> None:
    client = http.client.HTTPConnection("127.0.0.1", impatient.port, timeout=20)
    client.connect()
    first, answers = client.sock, []

    def ask_once_more() -> bool:
        client.request("GET", "/")
        answers.append(client.getresponse().read())
        return len(answers) == 25

    eventually(ask_once_more, 60, every_seconds=0.1)
    assert client.sock is first
    client.close()


def test_a_body_that_is_too_large_is_refused(server: HttpServer) -> None:
    with client_of(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 70_000)
        assert b" 413 " in client.recv(4096).splitlines()[0]


def test_headers_that_are_too_large_are_refused(server: HttpServer) -> None:
    with client_of(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX-Large: " + b"x" * 33_000 + b"\r\n\r\n")
        assert b" 431 " in client.recv(4096).splitlines()[0]


def test_the_version_of_nothing_is_told(server: HttpServer) -> None:
    assert ask(server.port, "/").headers["server"] == "signalbus"


def test_a_port_in_use_is_a_clear_error(server: HttpServer) -> None:
    with pytest.raises(ConfigError, match=f"--http 127.0.0.1:{server.port}: cannot listen there"):
        HttpServer(hello, "127.0.0.1", server.port)


def test_a_host_that_does_not_exist_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="cannot listen there"):
        HttpServer(hello, "no-such-host.invalid", 0)


def test_after_closing_nothing_listens() -> None:
    server = HttpServer(hello, "127.0.0.1", 0)
    server.start()
    port = server.port
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)


def test_thousand_idle_and_hundred_slow_clients_delay_nobody(server: HttpServer) -> None:
    clients: list[socket.socket] = []
    before = open_files()
    try:
        dripping = [client_of(server) for _ in range(100)]
        clients += dripping
        for client in dripping:
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        clients += [client_of(server) for _ in range(1000)]
        for _ in range(3):
            for client in dripping:
                with contextlib.suppress(OSError):
                    client.sendall(b"a")
            assert ask(server.port, "/livez").status == 200
        eventually(lambda: open_files() - before - len(clients) <= MOST_CONNECTIONS + 1, 20, "the oldest gave way")
    finally:
        for client in clients:
            client.close()
    eventually(lambda: open_files() <= before, 20, "the files are free again")


def test_the_newest_connection_stays_when_the_oldest_gives_way(server: HttpServer) -> None:
    clients = [client_of(server) for _ in range(MOST_CONNECTIONS + 5)]
    try:
        eventually(lambda: all(is_cut_off(client) for client in clients[:5]), 20, "the oldest are cut off")
        clients[-1].setblocking(True)
        clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in clients[-1].recv(4096).splitlines()[0]
    finally:
        for client in clients:
            client.close()


def test_clients_that_never_take_their_answers_give_way_too() -> None:
    def large(_environ: object, start_response: Callable[..., object]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5000000")])
        return [b"x" * 5_000_000]

    server = HttpServer(large, "127.0.0.1", 0, channel_timeout=1, cleanup_interval=0)
    server.start()
    before = open_files()
    with client_of(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        # Its two ends, and perhaps the file that its answer waits in.
        eventually(lambda: open_files() >= before + 2, 10, "it is let in")
        eventually(lambda: open_files() == before + 1, 20, "its connection is ended although it takes nothing")
    server.close()


def test_connections_take_a_third_of_the_files_at_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {256: 85, 1024: 341, 20_000: MOST_CONNECTIONS, -1: MOST_CONNECTIONS, 2: 1}
    found = {}
    for files in limits:
        monkeypatch.setattr("resource.getrlimit", lambda _, files=files: (files, files))
        found[files] = most_connections()
    assert found == limits


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
