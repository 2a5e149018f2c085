"""A TCP proxy that breaks connections in the ways that networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Literal

from .proxy_link import DIRECTIONS, Action, Direction, Line, Link, Trigger, reset


class FaultProxy:
    """Forwards to ``host:port`` until it is told otherwise.

    - ``blackhole()``: keeps every socket open and moves nothing.
    - ``stall("to_server")``, ``stall("to_client")``: the same for one direction; without a direction, for both.
    - ``refuse()``: ends all connections, and resets new ones.
    - ``reset()``: ends all connections; new ones are forwarded.
    - ``forward()``: ends the four above.
    - ``cut_after(n)``: lets ``n`` more bytes through to the server, then ends the connections; ``to="client"`` for the
      other direction.
    - ``delay(seconds)``: holds back each piece of data; ``delay(0)`` ends it.
    - ``limit(bytes_per_second)``: for each connection and direction; ``limit(None)`` ends it.
    - ``on_data(direction, needle, action)``: does something once, when certain bytes come by.

    :param listener: a bound socket to accept connections on, instead of a free port of the loopback address.
    """

    def __init__(self, host: str, port: int, listener: socket.socket | None = None) -> None:
        self._upstream = (host, port)
        self._listener = listener
        self._refuses = False
        self._links: set[Link] = set()
        self._errors: list[Exception] = []
        self.port = 0
        #: Connections that were accepted so far.
        self.connections = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault-proxy")
        self._thread.start()
        self._ready.wait(10)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bytes_forwarded(self) -> int:
        """Bytes that went to the server so far."""
        return self._lines["to_server"].bytes_forwarded

    def forward(self) -> None:
        self._call(self._forward)

    def blackhole(self) -> None:
        self.stall()

    def stall(self, *directions: Direction) -> None:
        def change() -> None:
            self._refuses = False
            for direction in directions or DIRECTIONS:
                self._lines[direction].open.clear()

        self._call(change)

    def refuse(self) -> None:
        def change() -> None:
            self._forward()
            self._refuses = True
            self._cut_all()

        self._call(change)

    def reset(self) -> None:
        self._call(self._cut_all)

    def cut_after(self, number_of_bytes: int, to: Literal["server", "client"] = "server") -> None:
        line = self._lines["to_server" if to == "server" else "to_client"]
        self._call(lambda: setattr(line, "cut_after", number_of_bytes))

    def delay(self, seconds: float) -> None:
        self._set_all("delay_seconds", seconds)

    def limit(self, bytes_per_second: float | None) -> None:
        self._set_all("bytes_per_second", bytes_per_second)

    def on_data(self, direction: Direction, needle: bytes, action: Action) -> threading.Event:
        """Do something once, on the first connection that these bytes come by on.

        :param action: ``"cut"`` ends the connection before the bytes go on. ``"lose_answer"`` passes them on, swallows
          what comes back, and ends the connection then. A callable is called from the proxy's thread, in which nothing
          moves meanwhile; the bytes go on afterwards. What it raises, :meth:`close` raises.
        :returns: an event that is set when it has happened.
        """
        trigger = Trigger(needle, action)
        self._call(lambda: self._lines[direction].triggers.append(trigger))
        return trigger.happened

    def close(self) -> None:
        if self._thread.is_alive():
            self._call(self._stop.set)
            self._thread.join(10)
        if self._errors:
            raise self._errors.pop()

    def _set_all(self, name: str, value: Any) -> None:
        def change() -> None:
            for line in self._lines.values():
                setattr(line, name, value)

        self._call(change)

    def _call(self, change: Callable[[], object]) -> None:
        """Run on the proxy's loop, and wait until it is done."""
        if threading.current_thread() is self._thread:
            change()
            return
        done = threading.Event()

        def run() -> None:
            change()
            done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(10):
            raise TimeoutError("the proxy does not answer")

    def _forward(self) -> None:
        self._refuses = False
        for line in self._lines.values():
            line.open.set()

    def _cut_all(self) -> None:
        for link in self._links:
            link.cut()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._lines: dict[Direction, Line] = {direction: Line() for direction in DIRECTIONS}
        self._forward()
        address: dict[str, Any] = {"sock": self._listener} if self._listener else {"host": "127.0.0.1", "port": 0}
        server = await asyncio.start_server(self._accept, **address)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._cut_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refuses:
            reset([writer])
            return
        try:
            server = await asyncio.open_connection(*self._upstream)
        except OSError:
            reset([writer])
            return
        link = Link(self._lines, self._cut_all, (reader, writer), server)
        self._links.add(link)
        try:
            # Cancelled when the proxy is closed.
            with contextlib.suppress(asyncio.CancelledError):
                await link.run()
        except Exception as error:
            self._errors.append(error)
        finally:
            self._links.discard(link)
