"""A TCP proxy that breaks connections in the ways that networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Literal

Mode = Literal["forward", "blackhole", "refuse"]


class FaultProxy:
    """Forwards to ``host:port`` until it is told otherwise.

    - ``blackhole()``: keeps every socket open and moves nothing.
    - ``refuse()``: ends all connections, and resets new ones.
    - ``reset()``: ends all connections; new ones are forwarded.
    - ``cut_after(n)``: lets ``n`` more bytes through to the server, then ends the connection.
    - ``delay(seconds)``: holds back each piece of data.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._mode: Mode = "forward"
        self._delay_seconds = 0.0
        self._cut_after: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        #: Bytes that went to the server so far.
        self.bytes_forwarded = 0
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

    def forward(self) -> None:
        self._call(lambda: self._set("forward"))

    def blackhole(self) -> None:
        self._call(lambda: self._set("blackhole"))

    def refuse(self) -> None:
        self._call(lambda: (self._set("refuse"), self._reset_all()))

    def reset(self) -> None:
        self._call(self._reset_all)

    def cut_after(self, number_of_bytes: int) -> None:
        def change() -> None:
            self._cut_after = number_of_bytes

        self._call(change)

    def delay(self, seconds: float) -> None:
        def change() -> None:
            self._delay_seconds = seconds

        self._call(change)

    def close(self) -> None:
        self._call(self._stop.set)
        self._thread.join(10)

    def _call(self, change: Callable[[], object]) -> None:
        """Run on the proxy's loop, and wait until it is done."""
        done = threading.Event()

        def run() -> None:
            change()
            done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(10):
            raise TimeoutError("the proxy does not answer")

    def _set(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "blackhole":
            self._open.clear()
        else:
            self._open.set()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._open = asyncio.Event(), asyncio.Event()
        self._open.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._reset_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._mode == "refuse":
            _reset(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            _reset(writer)
            return
        both = {writer, up_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._pump(reader, up_writer, True), self._pump(up_reader, writer, False))
        finally:
            self._writers -= both
            for one in both:
                one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                if to_server and self._cut_after is not None:
                    data, self._cut_after = data[: self._cut_after], self._cut_after - len(data)
                    if self._cut_after <= 0:
                        self._cut_after = None
                        writer.write(data)
                        await writer.drain()
                        self._reset_all()
                        return
                if to_server:
                    self.bytes_forwarded += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a reset, without a word."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
