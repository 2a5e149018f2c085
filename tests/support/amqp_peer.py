"""A peer that speaks AMQP 0-9-1 and answers to publishes as a test tells it to, also as no broker should.

What it counts as stored is exactly what it acked and did not return before, so a test can tell what was lost and what
came twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pika import frame, spec
from pika.amqp_object import Method
from pika.exceptions import AMQPError

#: What it says beside each reply code.
REPLY_TEXT = "AS_THE_TEST_WILL"

CAPABILITIES = {"publisher_confirms": True, "basic.nack": True, "connection.blocked": True}


@dataclass
class Published:
    """A message as it came over the wire.

    :param tag: its delivery tag on its channel.
    """

    method: spec.Basic.Publish
    channel: int
    tag: int
    properties: spec.BasicProperties = field(default_factory=spec.BasicProperties)
    size: int = 0
    body: bytes = b""


#: Called for each message that has come in whole; does what the peer is to do then.
Script = Callable[["Session", Published], object]


def ack_each(session: Session, message: Published) -> None:
    """What a broker does that is well."""
    session.ack(message.tag)


class AmqpPeer:
    """A server on a free port of the loopback, in a thread of its own.

    :param script: what it does when a message has come in; may be changed at any time.
    :param heartbeat: seconds, proposed to the client; 0 for none.
    :param frame_max: bytes, proposed to the client.
    """

    def __init__(self, script: Script = ack_each, *, heartbeat: int = 0, frame_max: int = 131072) -> None:
        self.script = script
        self.heartbeat = heartbeat
        self.frame_max = frame_max
        #: Exchanges that it does not have.
        self.missing_exchanges: set[str] = set()
        #: All messages that came in, in order.
        self.published: list[Published] = []
        #: Bodies that were acked, and not returned before.
        self.stored: list[bytes] = []
        #: Bodies that came in again after they were stored.
        self.sent_again: list[bytes] = []
        #: Heartbeats that came in.
        self.heartbeats = 0
        self.sessions: list[Session] = []
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="amqp-peer")
        self._thread.start()
        self._ready.wait(10)

    def __enter__(self) -> AmqpPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def on_session(self, action: Callable[[Session], object]) -> None:
        """Do something to the last connection, from the test's thread."""
        self._loop.call_soon_threadsafe(action, self.sessions[-1])

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, writer)
        self.sessions.append(session)
        try:
            with contextlib.suppress(OSError, AMQPError):
                while data := await reader.read(65536):
                    session.receive(data)
        finally:
            writer.transport.abort()


class Session:
    """One connection. Scripts call its verbs; each writes at once, whatever the protocol says about it."""

    def __init__(self, peer: AmqpPeer, writer: asyncio.StreamWriter) -> None:
        self._peer = peer
        self._writer = writer
        self._buffer = b""
        self._incoming: dict[int, Published] = {}
        #: The messages of each open channel that came in whole, by delivery tag; cleared when they are answered for.
        self._unanswered: dict[int, dict[int, Published]] = {}
        self._tags: dict[int, int] = {}
        self._returned: set[int] = set()
        self._is_closing = False

    # The verbs of scripts

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        for message in self._answer(tag, multiple):
            if id(message) not in self._returned:
                self._peer.stored.append(message.body)
        self._send(spec.Basic.Ack(tag, multiple), self._confirming)

    def nack(self, tag: int, *, multiple: bool = False) -> None:
        self._answer(tag, multiple)
        self._send(spec.Basic.Nack(tag, multiple), self._confirming)

    def give_back(self, message: Published, code: int = 312) -> None:
        """Return a message."""
        self._returned.add(id(message))
        method = spec.Basic.Return(code, REPLY_TEXT, message.method.exchange, message.method.routing_key)
        self._send(method, message.channel)
        self._write(frame.Header(message.channel, len(message.body), message.properties).marshal())
        if message.body:
            self._write(frame.Body(message.channel, message.body).marshal())

    def close_channel(self, code: int) -> None:
        """Close the channel that publishes, and hear nothing more on it."""
        channel = self._confirming
        del self._unanswered[channel]
        self._send(spec.Channel.Close(code, REPLY_TEXT, 60, 40), channel)

    def close_connection(self, code: int) -> None:
        """Close the connection, and hear nothing more on it."""
        self._send(spec.Connection.Close(code, REPLY_TEXT, 0, 0))
        self._end()

    def block(self, reason: str = "low on memory") -> None:
        self._send(spec.Connection.Blocked(reason))

    def unblock(self) -> None:
        self._send(spec.Connection.Unblocked())

    def send_garbage(self, data: bytes) -> None:
        self._write(data)

    def drop(self) -> None:
        """End the TCP connection without a word; what was written before still arrives."""
        self._end()
        self._writer.write_eof()

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(seconds, action)

    # The protocol

    def receive(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            consumed, value = frame.decode_frame(self._buffer)
            if value is None:
                return
            self._buffer = self._buffer[consumed:]
            self._take(value)

    def _take(self, value: Any) -> None:
        if isinstance(value, frame.ProtocolHeader):
            self._send(spec.Connection.Start(0, 9, {"capabilities": CAPABILITIES}, "PLAIN", "en_US"))
        elif isinstance(value, frame.Heartbeat):
            self._peer.heartbeats += 1
            self._write(frame.Heartbeat().marshal())
        elif isinstance(value, frame.Method):
            if isinstance(value.method, spec.Connection.CloseOk):
                self._writer.close()
            elif not self._is_closing:
                self._take_method(value.method, value.channel_number)
        elif not self._is_closing and value.channel_number in self._incoming:
            self._take_content(self._incoming[value.channel_number], value)

    def _take_method(self, method: Method, channel: int) -> None:
        match method:
            case spec.Basic.Publish():
                # A channel that was closed hears nothing until it is opened again.
                if channel in self._unanswered:
                    self._tags[channel] += 1
                    self._incoming[channel] = Published(method, channel, self._tags[channel])
            case spec.Connection.StartOk() if method.response not in ("\0guest\0guest", b"\0guest\0guest"):
                self.close_connection(403)
            case spec.Connection.StartOk():
                self._send(spec.Connection.Tune(2047, self._peer.frame_max, self._peer.heartbeat))
            case spec.Connection.Open():
                self._send(spec.Connection.OpenOk())
            case spec.Connection.Close():
                self._send(spec.Connection.CloseOk())
            case spec.Channel.Open():
                self._send(spec.Channel.OpenOk(), channel)
            case spec.Channel.Close():
                self._unanswered.pop(channel, None)
                self._send(spec.Channel.CloseOk(), channel)
            case spec.Confirm.Select():
                self._unanswered[channel], self._tags[channel] = {}, 0
                self._send(spec.Confirm.SelectOk(), channel)
            case spec.Exchange.Declare() if method.exchange in self._peer.missing_exchanges:
                self._send(spec.Channel.Close(404, REPLY_TEXT, 40, 10), channel)
            case spec.Exchange.Declare():
                self._send(spec.Exchange.DeclareOk(), channel)

    def _take_content(self, message: Published, value: frame.Header | frame.Body) -> None:
        if isinstance(value, frame.Header):
            message.properties, message.size = value.properties, value.body_size
        else:
            message.body += value.fragment
        if len(message.body) < message.size:
            return
        del self._incoming[message.channel]
        if message.body in self._peer.stored:
            self._peer.sent_again.append(message.body)
        self._peer.published.append(message)
        if message.channel in self._unanswered:
            self._unanswered[message.channel][message.tag] = message
            self._peer.script(self, message)

    def _end(self) -> None:
        # An answer that is due later is not written any more, so it stores nothing.
        self._is_closing = True
        self._unanswered.clear()

    @property
    def _confirming(self) -> int:
        return max(self._unanswered, default=1)

    def _answer(self, tag: int, multiple: bool) -> list[Published]:
        unanswered = self._unanswered.get(self._confirming, {})
        tags = [other for other in sorted(unanswered) if other == tag or (multiple and (tag == 0 or other < tag))]
        return [unanswered.pop(other) for other in tags]

    def _send(self, method: Method, channel: int = 0) -> None:
        self._write(frame.Method(channel, method).marshal())

    def _write(self, data: bytes) -> None:
        if not self._is_closing and not self._writer.transport.is_closing():
            self._writer.write(data)
