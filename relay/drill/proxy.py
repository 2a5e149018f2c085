"""A TCP proxy on loopback that can cut and stall its connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy.engine import URL

from signalbus_core.rabbitmq import BrokerLocation

#: The address on which the proxy listens.
LOOPBACK = "127.0.0.1"

#: The time limit for a command to the proxy's thread.
ANSWER_SECONDS = 10.0

Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Forwarder(ABC):
    """Accepts connections in a thread of its own, and connects each to ``host:port``.

    :param listener: a bound socket to accept connections on, instead of a free port of the loopback address.
    """

    def __init__(self, host: str, port: int, listener: socket.socket | None = None) -> None:
        self._upstream = (host, port)
        self._address: dict[str, Any] = {"sock": listener} if listener else {"host": LOOPBACK, "port": 0}
        self._ready = threading.Event()
        #: The port on which it listens.
        self.port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy", daemon=True)
        self._thread.start()
        self._ready.wait(ANSWER_SECONDS)

    def close(self) -> None:
        """Reset all connections, and accept none any more."""
        if self._thread.is_alive():
            self._do(lambda: self._closing.set())
            self._thread.join(ANSWER_SECONDS)

    def _do(self, change: Callable[[], object]) -> None:
        """Run on the proxy's loop, and wait until it is done."""
        if threading.current_thread() is self._thread:
            change()
            return
        done = threading.Event()

        def run() -> None:
            change()
            done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(ANSWER_SECONDS):
            raise TimeoutError("the proxy does not answer")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        server = await asyncio.start_server(self._accept, **self._address)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._closing.wait()
        server.close()
        self._cut_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A connection is cancelled when the proxy is closed; asyncio would log it as an error.
        with contextlib.suppress(asyncio.CancelledError):
            try:
                server = await asyncio.open_connection(*self._upstream)
            except OSError:
                reset([writer])
                return
            await self._link((reader, writer), server)

    @abstractmethod
    async def _link(self, client: Side, server: Side) -> None:
        """Forward until one side ends."""

    @abstractmethod
    def _cut_all(self) -> None:
        """Reset the open connections."""


class Proxy(Forwarder):
    """A proxy whose connections can be broken.

    - :meth:`cut` closes the open connections, with a TCP reset to both sides.
    - :meth:`stall` keeps all of them open and forwards nothing, until :meth:`resume`.
    """

    def __init__(self, host: str, port: int) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        super().__init__(host, port)

    def cut(self) -> None:
        self._do(self._cut_all)

    def stall(self) -> None:
        self._do(self._flowing.clear)

    def resume(self) -> None:
        self._do(self._flowing.set)

    async def _link(self, client: Side, server: Side) -> None:
        pair = {client[1], server[1]}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(client[0], server[1]), self._pump(server[0], client[1]))
        finally:
            self._writers -= pair
            for one in pair:
                one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    def _cut_all(self) -> None:
        reset(self._writers)


def reset(writers: Iterable[asyncio.StreamWriter]) -> None:
    """End connections by a TCP reset: the other sides get an error instead of an orderly close."""
    for writer in list(writers):
        raw = writer.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


POSTGRES_PORT = 5432
AMQP_PORT = 5672


@dataclass(frozen=True)
class Upstream:
    """The server behind a proxy."""

    host: str
    port: int


def database_upstream(url: URL, environ: Mapping[str, str]) -> Upstream | str:
    """The server of a database URL, or why no proxy can be used for it."""
    host = url.host or ""
    if not host or "/" in host or "," in host or {"host", "hostaddr", "port", "service"} & set(url.query):
        return "its URL names no single host"
    if (url.query.get("sslmode") or environ.get("PGSSLMODE")) == "verify-full":
        return "its certificate is checked against its host name (sslmode=verify-full)"
    return Upstream(host, url.port or POSTGRES_PORT)


def broker_upstream(url: str) -> Upstream | str:
    """The server of a broker URL, or why no proxy can be used for it."""
    nodes = BrokerLocation(url).nodes
    if len(nodes) > 1:
        return "its URL names several nodes"
    parts = urlsplit(url)
    if parts.scheme == "amqps":
        return "its certificate is checked against its host name (amqps)"
    return Upstream(parts.hostname or "localhost", parts.port or AMQP_PORT)


def database_detour(url: URL, port: int) -> URL:
    return url.set(host=LOOPBACK, port=port)


def broker_detour(url: str, port: int) -> str:
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{LOOPBACK}:{port}"))
