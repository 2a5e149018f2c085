"""What is told of a broker whose TLS does not come about, and that relays and commands tell the same."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pika
import pytest

from relay.checks.broker import connecting_finding
from signalbus_core.rabbitmq import BrokerConnectionError
from signalbus_core.rabbitmq.amqp.channel import BrokerConnection
from signalbus_core.rabbitmq.amqp.url import BrokerNode
from tests.support.certificates import make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def server(greet: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server that greets whoever connects, then hangs up; its port."""
    listener = socket.create_server(("localhost", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with suppress(OSError):
                    greet(client)
                client.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def speaking_tls(
    directory: Path, name: str = "cert", *, asks_client: bool = False
) -> Callable[[socket.socket], object]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.pem", directory / "key.pem")
    if asks_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(directory / "ca.pem")

    def greet(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True, do_handshake_on_connect=False) as wrapped:
            wrapped.settimeout(5)
            try:
                wrapped.do_handshake()
                wrapped.recv(8)
            except ssl.SSLError:
                # Else what the client has sent meanwhile would make the close a reset, which may overtake the alert.
                while os.read(wrapped.fileno(), 1024):
                    pass

    return greet


def expired(directory: Path) -> str:
    """A certificate of yesterday, with the same key and the same name."""
    command = "x509 -x509toreq -in cert.pem -signkey key.pem -out request.pem"
    subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)
    command = "x509 -req -in request.pem -signkey key.pem -days -1 -out expired.pem"
    subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)
    return "expired"


def told(node: BrokerNode) -> str:
    """What is told, the same by relays and by commands."""
    with pytest.raises(BrokerConnectionError) as raised:
        BrokerConnection(node, 3.0)
    with pytest.raises((pika.exceptions.AMQPError, OSError)) as of_command:
        pika.BlockingConnection(node.parameters(3.0))
    finding = connecting_finding(of_command.value, "")
    assert str(raised.value) == f"{node}: {finding.problem}"
    assert finding.remedy
    return finding.problem


def url(port: int, host: str = "localhost", **files: Path) -> BrokerNode:
    options = quote(str({name: str(path) for name, path in files.items()}))
    return BrokerNode(f"amqps://u:p@{host}:{port}/" + (f"?ssl_options={options}" if files else ""))


def test_each_failure_of_tls_has_its_own_words(certificates: Path) -> None:
    ca = certificates / "ca.pem"
    with server(speaking_tls(certificates)) as port:
        assert "authority that this machine does not know" in told(url(port))
        assert "for another host name" in told(url(port, "127.0.0.1", cafile=ca))
        plain = BrokerNode(f"amqp://u:p@localhost:{port}/")
        assert "closed during the handshake" in told(plain)
    name = expired(certificates)
    with server(speaking_tls(certificates, name)) as port:
        assert "has expired" in told(url(port, cafile=certificates / f"{name}.pem"))
    with server(lambda client: client.sendall(b"AMQP\x00\x00\x09\x01")) as port:
        assert "does not speak TLS" in told(url(port, cafile=ca))
    with server(speaking_tls(certificates, asks_client=True)) as port:
        assert "requires a certificate of the client" in told(url(port, cafile=ca))
