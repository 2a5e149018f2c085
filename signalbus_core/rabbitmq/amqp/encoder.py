"""A fast encoder for usual messages. Its output equals pika's own encoding, byte for byte.

pika encodes and checks once what messages have in common: the publish to an exchange with a routing key, and the
properties that seldom differ between messages. Only the rest is encoded here. A message with a value of an unexpected
type is encoded by :func:`~.frames.encode`, which also reports what is wrong with it.
"""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter
from struct import Struct
from typing import Any, NamedTuple, TypeVar

from pika import spec
from pika.frame import Method
from pika.spec import BasicProperties

from .frames import FRAME_OVERHEAD, EncodedMessage, encode
from .message import Message
from .validation import ROUTING_HEADERS, value_fault

#: The properties that seldom differ between messages, in the order of their encoding.
SHARED = ("content_type", "content_encoding", "delivery_mode", "priority", "reply_to", "expiration")
SHARED_LAST = ("type", "user_id", "app_id", "cluster_id")

#: Equal values of these types have equal encodings. With other types, True equals 1, and str subclasses may differ.
PLAIN = frozenset({str, int, type(None)})

#: A header frame up to its properties: type, channel, size; class, weight, body size; which properties there are.
HEADER = Struct(">BHIHHQH")
FRAME = Struct(">BHI")
LONG = Struct(">I")
LONG_TEXT = Struct(">cI")
TIMESTAMP = Struct(">Q")
END = bytes([spec.FRAME_END])

#: The bytes of a header frame's payload before its properties.
HEADER_PAYLOAD = HEADER.size - FRAME.size

#: So many routing keys and shared properties are cached; every message may have its own. More: more memory.
MOST_KEPT = 1000

LENGTHS = [bytes([length]) for length in range(256)]

K = TypeVar("K")
V = TypeVar("V")

_shared_of = attrgetter(*SHARED, *SHARED_LAST)

_NO_PROPERTIES = BasicProperties()


class _Shared(NamedTuple):
    """The encoded properties that messages have in common: the pieces between which the others are inserted."""

    flags: int
    content: bytes
    delivery: bytes
    reply: bytes
    last: bytes


class Encoder:
    """Encodes messages for one channel.

    :param frame_max: the largest frame in bytes, as negotiated with the broker.
    :param login: the user of the connection; the broker accepts no other ``user_id``.
    """

    def __init__(self, channel_number: int, frame_max: int, login: str) -> None:
        self._channel_number = channel_number
        self._frame_max = frame_max
        self._login = login
        self._publishes: dict[tuple[str, str, bool], bytes] = {}
        self._shared: dict[tuple[Any, ...], _Shared] = {}

    def encode(self, message: Message) -> EncodedMessage:
        """Encode a message.

        :raises InvalidMessageError: the message cannot be sent as it is.
        """
        try:
            usual = self._encode_usual(message)
        except Exception:  # noqa: BLE001 - what is wrong, the slow way finds out
            usual = None
        if usual is not None:
            return usual
        return encode(message, channel_number=self._channel_number, frame_max=self._frame_max, login=self._login)

    def _encode_usual(self, message: Message) -> EncodedMessage | None:
        body: Any = message.body
        if type(body) is str:
            body = body.encode()
        publish = self._publish(message)
        properties = message.properties if message.properties is not None else _NO_PROPERTIES
        if type(body) is not bytes or publish is None or type(properties) is not BasicProperties:
            return None
        found = self._properties(properties)
        size = len(body)
        if found is None or size > self._frame_max - FRAME_OVERHEAD:
            return None
        flags, values = found
        payload = HEADER_PAYLOAD + len(values)
        if payload > self._frame_max - FRAME_OVERHEAD:
            return None
        channel = self._channel_number
        header = HEADER.pack(spec.FRAME_HEADER, channel, payload, BasicProperties.INDEX, 0, size, flags)
        if not size:
            return EncodedMessage(b"".join((publish, header, values, END)), 2, body)
        start = FRAME.pack(spec.FRAME_BODY, channel, size)
        return EncodedMessage(b"".join((publish, header, values, END, start, body, END)), 3, body)

    def _publish(self, message: Message) -> bytes | None:
        exchange, routing_key, mandatory = message.exchange, message.routing_key, message.mandatory
        if type(exchange) is not str or type(routing_key) is not str or type(mandatory) is not bool:
            return None
        address = (exchange, routing_key, mandatory)
        data = self._publishes.get(address)
        if data is None:
            method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
            data = Method(self._channel_number, method).marshal()
            _keep(self._publishes, address, data)
        return data

    def _properties(self, properties: BasicProperties) -> tuple[int, bytes] | None:
        """The property flags and the encoded values."""
        values = _shared_of(properties)
        if not PLAIN.issuperset(map(type, values)):
            return None
        shared = self._shared.get(values) or self._share(values)
        if shared is None:
            return None
        flags = shared.flags
        headers = correlation_id = message_id = timestamp = b""
        if properties.headers is not None:
            flags |= BasicProperties.FLAG_HEADERS
            headers = _table(properties.headers)
        if properties.correlation_id is not None:
            flags |= BasicProperties.FLAG_CORRELATION_ID
            correlation_id = _short_text(properties.correlation_id)
        if properties.message_id is not None:
            flags |= BasicProperties.FLAG_MESSAGE_ID
            message_id = _short_text(properties.message_id)
        if properties.timestamp is not None:
            flags |= BasicProperties.FLAG_TIMESTAMP
            timestamp = _timestamp(properties.timestamp)
        pieces = (shared.content, headers, shared.delivery, correlation_id, shared.reply, message_id, timestamp)
        return flags, b"".join((*pieces, shared.last))

    def _share(self, values: tuple[Any, ...]) -> _Shared | None:
        given = dict(zip((*SHARED, *SHARED_LAST), values, strict=True))
        if value_fault("", "", BasicProperties(**given), b"", self._login) is not None:
            return None
        parts = [_encoded(given, names) for names in (SHARED[:2], SHARED[2:4], SHARED[4:], SHARED_LAST)]
        flags = sum(int.from_bytes(part[:2], "big") for part in parts)
        shared = _Shared(flags, *(part[2:] for part in parts))
        _keep(self._shared, values, shared)
        return shared


@lru_cache(maxsize=64)
def encoder_for(channel_number: int, frame_max: int, login: str) -> Encoder:
    """The encoder for channels with these parameters. All threads and bursts share its cache."""
    return Encoder(channel_number, frame_max, login)


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    if len(kept) >= MOST_KEPT:
        kept.clear()
    kept[key] = value


def _encoded(given: dict[str, Any], names: tuple[str, ...]) -> bytes:
    return b"".join(BasicProperties(**{name: given[name] for name in names}).encode())


class _UnusualError(Exception):
    """A value that pika must encode."""


def _short_text(text: object) -> bytes:
    if type(text) is not str:
        raise _UnusualError
    data = text.encode()
    # LENGTHS has no entry for a text that is too long.
    return LENGTHS[len(data)] + data


def _timestamp(seconds: object) -> bytes:
    if type(seconds) is not int:
        raise _UnusualError
    return TIMESTAMP.pack(seconds)


def _table(headers: object) -> bytes:
    if type(headers) is not dict:
        raise _UnusualError
    pieces: list[bytes] = []
    for name, value in headers.items():
        if type(value) is not str or name in ROUTING_HEADERS:
            raise _UnusualError
        data = value.encode()
        pieces += (_short_text(name), LONG_TEXT.pack(b"S", len(data)), data)
    table = b"".join(pieces)
    return LONG.pack(len(table)) + table
