"""A TCP proxy that breaks connections in the ways that networks do."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, Literal

from relay.drill.proxy import Forwarder, Side, reset

from .proxy_link import DIRECTIONS, Action, Direction, Line, Link, Trigger


class FaultProxy(Forwarder):
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
        self._refuses = False
        self._lines: dict[Direction, Line] = {direction: Line() for direction in DIRECTIONS}
        self._links: set[Link] = set()
        self._errors: list[Exception] = []
        #: Connections that were accepted so far.
        self.connections = 0
        self._forward()
        super().__init__(host, port, listener)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bytes_forwarded(self) -> int:
        """Bytes that went to the server so far."""
        return self._lines["to_server"].bytes_forwarded

    def forward(self) -> None:
        self._do(self._forward)

    def retarget(self, port: int) -> None:
        """New connections go to another server on the same host."""
        self._do(lambda: setattr(self, "_upstream", (self._upstream[0], port)))

    def blackhole(self) -> None:
        self.stall()

    def stall(self, *directions: Direction) -> None:
        def change() -> None:
            self._refuses = False
            for direction in directions or DIRECTIONS:
                self._lines[direction].open.clear()

        self._do(change)

    def refuse(self) -> None:
        def change() -> None:
            self._forward()
            self._refuses = True
            self._cut_all()

        self._do(change)

    def reset(self) -> None:
        self._do(self._cut_all)

    def cut_after(self, number_of_bytes: int, to: Literal["server", "client"] = "server") -> None:
        line = self._lines["to_server" if to == "server" else "to_client"]
        self._do(lambda: setattr(line, "cut_after", number_of_bytes))

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
        self._do(lambda: self._lines[direction].triggers.append(trigger))
        return trigger.happened

    def close(self) -> None:
        super().close()
        if self._errors:
            raise self._errors.pop()

    def _set_all(self, name: str, value: Any) -> None:
        def change() -> None:
            for line in self._lines.values():
                setattr(line, name, value)

        self._do(change)

    def _forward(self) -> None:
        self._refuses = False
        for line in self._lines.values():
            line.open.set()

    def _cut_all(self) -> None:
        for link in self._links:
            link.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refuses:
            reset([writer])
        else:
            await super()._accept(reader, writer)

    async def _link(self, client: Side, server: Side) -> None:
        link = Link(self._lines, self._cut_all, client, server)
        self._links.add(link)
        try:
            await link.run()
        except Exception as error:
            self._errors.append(error)
        finally:
            self._links.discard(link)
