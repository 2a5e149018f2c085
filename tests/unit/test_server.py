"""The HTTP server, over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from relay.config import ConfigError
from relay.health import Health
from relay.metrics import Metrics
from relay.server import HttpServer, create_http_app
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    health = Health(10, clock)
    health.beat("worker-1")
    health.set_state("running")
    health.set_database("up")
    health.set_broker("worker-1", "up")
    return health


@pytest.fixture
def server(health: Health) -> Iterator[HttpServer]:
    server = HttpServer(create_http_app(health, Metrics()), "127.0.0.1", 0)
    server.start()
    yield server
    server.close()


def ask(server: HttpServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, {key.lower(): text for key, text in response.getheaders()}, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/metrics", "/"])
def test_every_page_answers_200_when_all_is_well(server: HttpServer, path: str) -> None:
    status, headers, body = ask(server, path)
    assert status == 200
    assert body
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]


def test_liveness_fails_with_the_stuck_thread(server: HttpServer, clock: Clock) -> None:
    clock.now = 60
    for path in ("/livez", "/healthz"):
        status, _, body = ask(server, path)
        assert status == 503
        assert "worker-1" in json.loads(body)["reasons"][0]


def test_readiness_fails_with_the_reason_while_liveness_does_not(server: HttpServer, health: Health) -> None:
    health.set_broker("worker-1", "down", "refused")
    status, _, body = ask(server, "/readyz")
    assert status == 503
    assert json.loads(body)["reasons"] == ["broker is down: refused"]
    assert ask(server, "/livez")[0] == 200


def test_the_page_escapes_what_it_shows(server: HttpServer, health: Health) -> None:
    health.set_broker("worker-1", "down", "<script>alert(1)</script>")
    assert "<script>" not in ask(server, "/")[2]


def test_metrics_are_in_prometheus_text_format(server: HttpServer) -> None:
    _, headers, body = ask(server, "/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE signalbus_relay_state gauge" in body


@pytest.mark.parametrize("path", ["/nothing", "/livez/", "/../etc/passwd", "/metrics/x", "/%2e%2e/"])
def test_other_paths_are_not_found(server: HttpServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(server: HttpServer, method: str) -> None:
    status, headers, _ = ask(server, "/readyz", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_head_answers_without_a_body(server: HttpServer) -> None:
    status, headers, body = ask(server, "/readyz", "HEAD")
    assert (status, body) == (200, "")
    assert int(headers["content-length"]) > 0


def test_a_hundred_half_open_clients_hold_up_nobody(server: HttpServer) -> None:
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(90)]
    try:
        for client in clients:
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n")
        assert ask(server, "/livez")[0] == 200
    finally:
        for client in clients:
            client.close()


def test_a_port_in_use_is_a_clear_error(server: HttpServer, health: Health) -> None:
    with pytest.raises(ConfigError, match=f"--http 127.0.0.1:{server.port}: cannot listen there"):
        HttpServer(create_http_app(health, Metrics()), "127.0.0.1", server.port)


def test_a_host_that_does_not_exist_is_a_clear_error(health: Health) -> None:
    with pytest.raises(ConfigError, match="cannot listen there"):
        HttpServer(create_http_app(health, Metrics()), "no-such-host.invalid", 0)


def test_after_closing_nothing_listens(health: Health) -> None:
    server = HttpServer(create_http_app(health, Metrics()), "127.0.0.1", 0)
    server.start()
    port = server.port
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)
