"""A client that does as little as can be: it writes frames that were encoded before, and counts answers.

What the broker does with it is what the broker can do; nothing of Signalbus, and of pika only the handshake, is in it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from struct import Struct
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pika import spec
from pika.frame import Method, ProtocolHeader, decode_frame

CHANNEL = 1

FRAME = Struct(">BHI")
METHOD = Struct(">HH")
ACK = Struct(">Q?")
TAG = Struct(">Q")
SIZE = Struct(">Q")

ACK_FRAME = FRAME.pack(spec.FRAME_METHOD, CHANNEL, 13) + METHOD.pack(60, 80)

M = TypeVar("M")


class Client:
    """A connection with one open channel."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 5672))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()
        self.socket.sendall(ProtocolHeader().marshal())
        self._expect(0, spec.Connection.Start)
        login = f"\0{unquote(parts.username or '')}\0{unquote(parts.password or '')}".encode()
        self._write(0, spec.Connection.StartOk({}, "PLAIN", login, "en_US"))
        tune = self._expect(0, spec.Connection.Tune)
        self.frame_max = int(tune.frame_max)
        self._write(0, spec.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        self.ask(spec.Connection.Open(unquote(parts.path[1:])), spec.Connection.OpenOk, channel=0)
        self.ask(spec.Channel.Open(), spec.Channel.OpenOk)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, method: Any, answer: type[M], channel: int = CHANNEL) -> M:
        """Send a method and wait for its answer."""
        self._write(channel, method)
        return self._expect(channel, answer)

    def ack_all(self, tag: int) -> None:
        """Acknowledge all deliveries up to this one."""
        self.socket.sendall(ACK_FRAME + ACK.pack(tag, True) + b"\xce")

    def receive(self) -> None:
        """Read what is there; wait when there is nothing.

        :raises EOFError: the broker has closed the connection.
        """
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError("the broker has closed the connection")
        self._data += data

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """The kind and the payload of each whole frame that was read so far."""
        data, at = bytes(self._data), 0
        while len(data) - at >= FRAME.size:
            kind, _channel, size = FRAME.unpack_from(data, at)
            end = at + FRAME.size + size + 1
            if end > len(data):
                break
            yield kind, data[at + FRAME.size : end - 1]
            at = end
        del self._data[:at]

    def _write(self, channel: int, method: Any) -> None:
        self.socket.sendall(Method(channel, method).marshal())

    def _expect(self, channel: int, answer: type[M]) -> M:
        while True:
            used, frame = decode_frame(bytes(self._data))
            del self._data[:used]
            if frame is None:
                self.receive()
            elif isinstance(frame, Method) and frame.channel_number == channel and isinstance(frame.method, answer):
                return frame.method
            else:
                raise RuntimeError(f"{answer.__name__} expected, not {frame}")


def is_method(kind: int, payload: bytes, class_id: int, method_id: int) -> bool:
    return kind == spec.FRAME_METHOD and METHOD.unpack_from(payload) == (class_id, method_id)
