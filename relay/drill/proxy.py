"""A TCP proxy on loopback that can cut and stall its connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy.engine import URL

#: The time limit for a command to the proxy's thread.
ANSWER_SECONDS = 10.0

#: The time limit for the connections to end at close().
ENDING_SECONDS = 2.0


class Proxy:
    """Forwards connections to ``host:port``.

    - :meth:`cut` closes the open connections, with a TCP reset to both sides.
    - :meth:`stall` keeps all of them open and forwards nothing, until :meth:`resume`.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        #: The port on which it listens.
        self.port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy", daemon=True)
        self._thread.start()
        self._ready.wait(ANSWER_SECONDS)

    def cut(self) -> None:
        self._do(self._cut_all)

    def stall(self) -> None:
        self._do(lambda: self._flowing.clear())

    def resume(self) -> None:
        self._do(lambda: self._flowing.set())

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self._do(lambda: self._closing.set())
        self._thread.join(ANSWER_SECONDS)

    def _do(self, change: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            change()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(ANSWER_SECONDS)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing, self._flowing = asyncio.Event(), asyncio.Event()
        self._flowing.set()
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._closing.wait()
        server.close()
        self._flowing.set()
        self._cut_all()
        # Not cancelled at once: asyncio would log each as an error.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=ENDING_SECONDS)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            _reset(writer)
            return
        pair = {writer, upstream_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(reader, upstream_writer), self._pump(upstream_reader, writer))
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
        for writer in list(self._writers):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection by a TCP reset: its other side gets an error instead of an orderly close."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


POSTGRES_PORT = 5432
AMQP_PORT = 5672

#: The address on which the proxy listens.
LOOPBACK = "127.0.0.1"


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
