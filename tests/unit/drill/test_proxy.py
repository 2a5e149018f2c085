"""The drill's proxy forwards, cuts and stalls."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from relay.drill.proxy import Proxy


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(1024):
                self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        proxy = Proxy(*server.server_address)
        yield proxy
        proxy.close()
        server.shutdown()
        thread.join()


def connect(proxy: Proxy, timeout_seconds: float = 20) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout_seconds)


def test_what_goes_in_comes_out(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"


def test_a_cut_resets_open_connections_and_new_ones_work(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    with connect(proxy) as client:
        client.sendall(b"again")
        assert client.recv(10) == b"again"


def test_a_stalled_connection_moves_nothing_and_loses_nothing(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        proxy.stall()
        client.sendall(b"two")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(10)
        proxy.resume()
        client.settimeout(20)
        assert client.recv(10) == b"two"


def test_closing_ends_stalled_connections_and_logs_no_error(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    with connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        proxy.stall()
        client.sendall(b"two")
        proxy.close()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(10) == b""
    assert not caplog.records


def test_a_server_that_is_away_ends_the_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = Proxy("127.0.0.1", unused.getsockname()[1])
        # The reset may come while the client still waits for its connection.
        with contextlib.suppress(ConnectionResetError), connect(proxy) as client:
            assert client.recv(10) == b""
        proxy.close()
