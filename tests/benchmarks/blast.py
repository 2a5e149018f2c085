"""How many messages a second the broker takes, when nothing but the broker takes time."""

from __future__ import annotations

import selectors
import time
from dataclasses import dataclass, field

from pika import spec

from signalbus_core.rabbitmq.amqp.encoder import Encoder

from .amqp import ACK, CHANNEL, METHOD, Client, is_method
from .messages import message

#: Messages are written so many at a time.
STEP = 100


@dataclass
class Blast:
    """What came of it.

    :param cpu_seconds: of the client.
    :param acks: frames with which the broker answered.
    """

    messages: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    acks: int = 0


@dataclass
class _Line:
    """One connection: what is to be written, and what is not answered."""

    client: Client
    pieces: list[tuple[bytes, int]]
    window: int
    sent: int = 0
    lowest: int = 1
    early: set[int] = field(default_factory=set)
    acks: int = 0

    @property
    def is_done(self) -> bool:
        return not self.pieces and self.lowest > self.sent

    def write(self) -> None:
        """Write as much as the window allows."""
        chosen = []
        while self.pieces and self.sent + self.pieces[-1][1] - (self.lowest - 1) - len(self.early) <= self.window:
            data, count = self.pieces.pop()
            chosen.append(data)
            self.sent += count
        if chosen:
            self.client.socket.sendall(b"".join(chosen))

    def read(self) -> None:
        self.client.receive()
        for kind, payload in self.client.frames():
            if not is_method(kind, payload, 60, 80):
                raise RuntimeError(f"an ack expected, not {payload[:20]!r}")
            self.acks += 1
            tag, multiple = ACK.unpack_from(payload, METHOD.size)
            if multiple:
                self.lowest = max(self.lowest, tag + 1)
                self.early = {one for one in self.early if one > tag}
            elif tag >= self.lowest:
                self.early.add(tag)
            while self.lowest in self.early:
                self.early.discard(self.lowest)
                self.lowest += 1


def blast(url: str, exchange: str, count: int, body_bytes: int, *, window: int, connections: int) -> Blast:
    """Write messages that were encoded before, with never more than ``window`` unanswered on each connection."""
    lines = [_line(url, exchange, count // connections, body_bytes, window, number) for number in range(connections)]
    result = Blast(sum(count for line in lines for _, count in line.pieces))
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line.client.socket, selectors.EVENT_READ, line)
        started, cpu = time.perf_counter(), time.process_time()
        for line in lines:
            line.write()
        while not all(line.is_done for line in lines):
            for key, _ in selector.select(60):
                key.data.read()
                key.data.write()
        result.seconds, result.cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    result.acks = sum(line.acks for line in lines)
    for line in lines:
        line.client.socket.close()
    return result


def _line(url: str, exchange: str, count: int, body_bytes: int, window: int, number: int) -> _Line:
    client = Client(url)
    client.ask(spec.Confirm.Select(), spec.Confirm.SelectOk)
    pieces = _pieces(client.frame_max, exchange, count, body_bytes, min(STEP, window), number)
    return _Line(client, pieces[::-1], window)


def _pieces(
    frame_max: int, exchange: str, count: int, body_bytes: int, step: int, number: int
) -> list[tuple[bytes, int]]:
    encoder = Encoder(CHANNEL, frame_max, "guest")
    first = number * count
    data = [encoder.encode(message(exchange, key, body_bytes)).data for key in range(first, first + count)]
    return [(b"".join(data[at : at + step]), len(data[at : at + step])) for at in range(0, count, step)]
