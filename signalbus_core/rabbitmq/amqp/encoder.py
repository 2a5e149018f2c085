"""A fast encoder for usual messages. Its output equals pika's own encoding, byte for byte.

pika encodes and checks once what messages have in common: the publish to an exchange with a routing key, and the
properties that seldom differ between messages. Only the rest is encoded here. A message with a value of an unexpected
type is encoded by :func:`~.frames.encode`, which also reports what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from struct import Struct
from typing import Any, Generic, NamedTuple, TypeVar

from pika import spec
from pika.frame import Method
from pika.spec import BasicProperties

from ...model.sending.sent_messages import SentMessage
from ...tracing.context import StoredContext, stored_context
from .frames import FRAME_OVERHEAD, EncodedMessage, encode
from .message import Message, as_messages
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

FLAG_HEADERS = BasicProperties.FLAG_HEADERS
FLAG_CORRELATION_ID = BasicProperties.FLAG_CORRELATION_ID
FLAG_MESSAGE_ID = BasicProperties.FLAG_MESSAGE_ID
FLAG_TIMESTAMP = BasicProperties.FLAG_TIMESTAMP

#: So many routing keys and shared properties are cached; every message may have its own. More: more memory.
MOST_KEPT = 1000

LENGTHS = [bytes([length]) for length in range(256)]

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S")

shared_of = attrgetter(*SHARED, *SHARED_LAST)

_NO_PROPERTIES = BasicProperties()


class _Shared(NamedTuple):
    """The encoded properties that messages have in common: the pieces between which the others are inserted."""

    flags: int
    content: bytes
    delivery: bytes
    reply: bytes
    last: bytes
    #: The size of a header frame's payload with these alone.
    size: int


Shared = tuple[Any, ...]
Address = tuple[str, str, bool]

#: What many messages have in common: the address, its encoded publish, and their shared properties.
Common = tuple[Address, bytes, _Shared]


class Encoder:
    """Encodes messages for one channel.

    :param frame_max: the largest frame in bytes, as negotiated with the broker.
    :param login: the user of the connection; the broker accepts no other ``user_id``.
    """

    def __init__(self, channel_number: int, frame_max: int, login: str) -> None:
        self._channel_number = channel_number
        self._frame_max = frame_max
        self._most_payload = frame_max - FRAME_OVERHEAD
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
        properties = message.properties if message.properties is not None else _NO_PROPERTIES
        if type(body) is not bytes or type(properties) is not BasicProperties:
            return None
        common = self.common(message.exchange, message.routing_key, message.mandatory, shared_of(properties))
        if common is None:
            return None
        return self.assemble(
            common, body, properties.headers, properties.correlation_id, properties.message_id, properties.timestamp
        )

    def common(self, exchange: object, routing_key: object, mandatory: object, values: Shared) -> Common | None:
        """What messages with this address and these shared properties have in common; None where pika must say.

        :param values: of :data:`SHARED` and :data:`SHARED_LAST`.
        """
        if type(exchange) is not str or type(routing_key) is not str or type(mandatory) is not bool:
            return None
        if not PLAIN.issuperset(map(type, values)):
            return None
        address = (exchange, routing_key, mandatory)
        publish = self._publishes.get(address)
        if publish is None:
            method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
            publish = Method(self._channel_number, method).marshal()
            keep(self._publishes, address, publish)
        shared = self._shared.get(values) or self._share(values)
        return None if shared is None else (address, publish, shared)

    def assemble(
        self,
        common: Common,
        body: bytes,
        headers: object,
        correlation_id: object,
        message_id: object,
        timestamp: object,
    ) -> EncodedMessage | None:
        """The frames of a message; None where pika must say. Values of other types than usual raise an error."""
        address, publish, (flags, content, delivery, reply, last, fixed) = common
        size = len(body)
        encoded_headers = encoded_correlation_id = encoded_id = encoded_timestamp = b""
        if headers is not None:
            flags |= FLAG_HEADERS
            encoded_headers = _table(headers)
        if correlation_id is not None:
            flags |= FLAG_CORRELATION_ID
            encoded_correlation_id = _short_text(correlation_id)
        if message_id is not None:
            flags |= FLAG_MESSAGE_ID
            encoded_id = _short_text(message_id)
        if timestamp is not None:
            flags |= FLAG_TIMESTAMP
            if type(timestamp) is not int:
                return None
            encoded_timestamp = TIMESTAMP.pack(timestamp)
        payload = fixed + len(encoded_headers) + len(encoded_correlation_id) + len(encoded_id) + len(encoded_timestamp)
        most, channel = self._most_payload, self._channel_number
        if payload > most:
            return None
        pieces = (
            publish,
            HEADER.pack(spec.FRAME_HEADER, channel, payload, BasicProperties.INDEX, 0, size, flags),
            content,
            encoded_headers,
            delivery,
            encoded_correlation_id,
            reply,
            encoded_id,
            encoded_timestamp,
            last,
        )
        if 0 < size <= most:
            start = FRAME.pack(spec.FRAME_BODY, channel, size)
            return EncodedMessage(b"".join((*pieces, END, start, body, END)), 3, body, address)
        # Views, so that a large body is copied once.
        parts = [memoryview(body)[start : start + most] for start in range(0, size, most)]
        frames: list[tuple[Any, ...]] = [(FRAME.pack(spec.FRAME_BODY, channel, len(part)), part, END) for part in parts]
        return EncodedMessage(b"".join((*pieces, END, *chain.from_iterable(frames))), 2 + len(frames), body, address)

    def _share(self, values: tuple[Any, ...]) -> _Shared | None:
        given = dict(zip((*SHARED, *SHARED_LAST), values, strict=True))
        if value_fault("", "", BasicProperties(**given), b"", self._login) is not None:
            return None
        parts = [_encoded(given, names) for names in (SHARED[:2], SHARED[2:4], SHARED[4:], SHARED_LAST)]
        flags = sum(int.from_bytes(part[:2], "big") for part in parts)
        content, delivery, reply, last = (part[2:] for part in parts)
        size = HEADER_PAYLOAD + len(content) + len(delivery) + len(reply) + len(last)
        shared = _Shared(flags, content, delivery, reply, last, size)
        keep(self._shared, values, shared)
        return shared


@lru_cache(maxsize=64)
def encoder_for(channel_number: int, frame_max: int, login: str) -> Encoder:
    """The encoder for channels with these parameters. All threads and bursts share its cache."""
    return Encoder(channel_number, frame_max, login)


class MessageMaker(Generic[S]):
    """Makes the messages of signals by a function, and encodes them. Its drafts are the messages themselves.

    Others have drafts that are encoded without making the messages, to the same bytes; a message is made only where
    something is asked of it, as after a ``basic.return``.

    :param message_of: returns the message of a signal, or its messages.
    """

    def __init__(self, message_of: Callable[[S], Message | Sequence[Message]]) -> None:
        self._message_of = message_of

    def __call__(self, signal: S) -> list[Message]:
        """The messages of a signal."""
        return [self.message(draft) for draft in self.drafts(signal)]

    def drafts(self, signal: S) -> list[Any]:
        """The drafts of a signal's messages. What it raises is the fault of this signal."""
        return as_messages(self._message_of(signal))

    def message(self, draft: Any) -> Message:
        """The message of a draft. A message is its own draft.

        :raises InvalidMessageError: there is none.
        """
        return draft  # type: ignore[no-any-return]

    def sent_message(self, draft: Any) -> SentMessage:
        """Where the message of a draft goes, and under which id."""
        message = self.message(draft)
        properties = message.properties
        return SentMessage(None if properties is None else properties.message_id, message.exchange, message.routing_key)

    def encoding(self, encoder: Encoder) -> Callable[[Any], EncodedMessage]:
        """What encodes drafts; it raises :class:`InvalidMessageError` for those that cannot be sent."""
        return encoder.encode

    def trace_context(self, signal: S) -> StoredContext | None:
        """The trace context that was stored with a signal."""
        return stored_context(signal)


#: For messages that are given as they are.
AS_THEY_ARE: MessageMaker[Message] = MessageMaker(lambda message: message)


def keep(kept: dict[K, V], key: K, value: V) -> None:
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
