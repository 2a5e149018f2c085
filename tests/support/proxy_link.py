"""One connection through the proxy: two flows of bytes, each with the faults that are set for its direction.

A byte is passed on at most once and in order; what a fault holds back, swallows or cuts never arrives late.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import termios
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from relay.drill.proxy import Side, reset

Direction = Literal["to_server", "to_client"]
DIRECTIONS: tuple[Direction, Direction] = ("to_server", "to_client")

#: - ``cut``: end the connection before the bytes go on.
#: - ``lose_answer``: pass the bytes on, swallow what comes back, and end the connection then.
#: - a callable: call it, then pass the bytes on.
Action = Literal["cut", "lose_answer"] | Callable[[], object]

#: A limited line passes bytes on so often.
TICK_SECONDS = 0.05

#: Before a cut, the other side is given so many hundredths of a second to take what it shall still get.
DELIVERY_TICKS = 500


@dataclass
class Trigger:
    """Something that happens once, when certain bytes come by."""

    needle: bytes
    action: Action
    happened: threading.Event = field(default_factory=threading.Event)


@dataclass
class Line:
    """The faults of one direction; they hold for all connections."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    delay_seconds: float = 0.0
    bytes_per_second: float | None = None
    cut_after: int | None = None
    triggers: list[Trigger] = field(default_factory=list)
    bytes_forwarded: int = 0

    def take_piece(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Split off what may go on now; tell also whether the connections end after it."""
        size = len(data)
        if self.bytes_per_second is not None:
            size = max(1, int(self.bytes_per_second * TICK_SECONDS))
        if self.cut_after is None:
            return data[:size], data[size:], False
        piece = data[: min(size, self.cut_after)]
        self.cut_after -= len(piece)
        is_last = self.cut_after == 0
        if is_last:
            self.cut_after = None
        return piece, data[len(piece) :], is_last

    def take_triggers(self, before: bytes, data: bytes) -> list[Trigger]:
        """The triggers whose bytes are complete with ``data``; they do not happen again."""
        found = []
        for trigger in self.triggers:
            # The bytes may be spread over several reads.
            overlap = len(trigger.needle) - 1
            if trigger.needle in (before[-overlap:] if overlap > 0 else b"") + data:
                found.append(trigger)
        self.triggers = [trigger for trigger in self.triggers if trigger not in found]
        return found

    @property
    def longest_needle(self) -> int:
        return max((len(trigger.needle) for trigger in self.triggers), default=0)


class Link:
    """A client's connection and the one to the server that belongs to it.

    :param cut_all: ends all connections of the proxy.
    """

    def __init__(
        self,
        lines: dict[Direction, Line],
        cut_all: Callable[[], None],
        client: Side,
        server: Side,
    ) -> None:
        self._lines = lines
        self._cut_all = cut_all
        self._readers = {"to_server": client[0], "to_client": server[0]}
        self._writers = {"to_server": server[1], "to_client": client[1]}
        self._muted: Direction | None = None
        for writer in self._writers.values():
            # With room in the buffer, drain() would return before the bytes are with the kernel; a cut loses them.
            writer.transport.set_write_buffer_limits(0)

    async def run(self) -> None:
        """Pass bytes on until one side ends."""
        try:
            await asyncio.gather(*(self._pump(direction) for direction in DIRECTIONS))
        finally:
            for writer in self._writers.values():
                writer.close()

    def cut(self) -> None:
        reset(self._writers.values())

    async def _pump(self, direction: Direction) -> None:
        line, before = self._lines[direction], b""
        with contextlib.suppress(OSError):
            while data := await self._readers[direction].read(65536):
                await line.open.wait()
                if line.delay_seconds:
                    await asyncio.sleep(line.delay_seconds)
                actions = _happen(line.take_triggers(before, data))
                before = (before + data)[-max(1, line.longest_needle) :]
                if "cut" in actions:
                    self.cut()
                    return
                await self._pass_on(direction, data, lose_answer="lose_answer" in actions)
        self._writers[direction].close()

    async def _pass_on(self, direction: Direction, data: bytes, *, lose_answer: bool) -> None:
        line, writer = self._lines[direction], self._writers[direction]
        while data:
            await line.open.wait()
            if self._muted == direction:
                self.cut()
                raise ConnectionResetError
            piece, data, is_last = line.take_piece(data)
            if lose_answer and not data:
                # Before the bytes go: their answer may be here before this task runs again.
                self._muted = "to_client" if direction == "to_server" else "to_server"
            writer.write(piece)
            await writer.drain()
            line.bytes_forwarded += len(piece)
            if is_last:
                await _delivered(writer)
                self._cut_all()
                raise ConnectionResetError
            if line.bytes_per_second is not None:
                await asyncio.sleep(len(piece) / line.bytes_per_second)


def _happen(triggers: Iterable[Trigger]) -> set[str]:
    """Call what is to be called; return the other actions."""
    actions = set()
    for trigger in triggers:
        if isinstance(trigger.action, str):
            actions.add(trigger.action)
        else:
            trigger.action()
        trigger.happened.set()
    return actions


async def _delivered(writer: asyncio.StreamWriter) -> None:
    """Wait until the other side has what was written: a reset throws away what is still on its way."""
    raw, unacknowledged = writer.get_extra_info("socket"), bytearray(4)
    for _ in range(DELIVERY_TICKS):
        if raw.fileno() < 0:
            return
        fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, unacknowledged)
        if not any(unacknowledged):
            return
        await asyncio.sleep(0.01)
