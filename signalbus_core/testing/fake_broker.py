"""A broker in memory: it answers as RabbitMQ does, unless a test makes it fail. It opens no socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from pika import frame
from pika.spec import BasicProperties


class Answer(Enum):
    """What the broker does with a message."""

    ACK = auto()
    NACK = auto()
    RETURN = auto()
    NOTHING = auto()


@dataclass(frozen=True)
class ReceivedMessage:
    """A message as a consumer of the real broker would receive it.

    :param body: always as bytes.
    :param properties: decoded from the encoded frames.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: BasicProperties
    mandatory: bool = True

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


@dataclass
class _Rule:
    answer: Answer
    exchange: str | None
    routing_key: str | None
    #: The number of further messages that it applies to; None for all.
    times: int | None
    stored: bool = False

    def is_about(self, message: ReceivedMessage) -> bool:
        if self.times == 0:
            return False
        return self.exchange in (None, message.exchange) and self.routing_key in (None, message.routing_key)


class FakeBroker:
    """Confirms every message and has every exchange, unless told otherwise. Thread-safe.

    A rule applies to messages to an ``exchange`` and with a ``routing_key`` (to all when not given), for so many
    ``times`` (without limit when not given). If several rules match a message, the last one counts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: list[ReceivedMessage] = []
        self._rules: list[_Rule] = []
        self._missing: set[str] = set()
        self._away: str | None = None

    @property
    def messages(self) -> list[ReceivedMessage]:
        """The messages that it has stored, in the order of arrival. A message that was sent again is there twice."""
        with self._lock:
            return list(self._messages)

    def messages_to(self, exchange: str, routing_key: str | None = None) -> list[ReceivedMessage]:
        """The messages to an exchange, with a routing key when one is given."""
        return [
            message
            for message in self.messages
            if message.exchange == exchange and routing_key in (None, message.routing_key)
        ]

    def nack(self, *, exchange: str | None = None, routing_key: str | None = None, times: int | None = None) -> None:
        """Nack messages, as a full queue with ``overflow=reject-publish`` does."""
        self._behave(_Rule(Answer.NACK, exchange, routing_key, times))

    def return_unroutable(
        self, *, exchange: str | None = None, routing_key: str | None = None, times: int | None = None
    ) -> None:
        """Return mandatory messages, as if no queue were bound. Others are acked and dropped."""
        self._behave(_Rule(Answer.RETURN, exchange, routing_key, times))

    def stay_silent(
        self,
        *,
        exchange: str | None = None,
        routing_key: str | None = None,
        times: int | None = None,
        stored: bool = False,
    ) -> None:
        """Leave messages unanswered; the publisher's timeout expires at once, without a wait.

        :param stored: whether the messages are stored nevertheless. Their signals will be sent again.
        """
        self._behave(_Rule(Answer.NOTHING, exchange, routing_key, times, stored))

    def lose_exchange(self, name: str) -> None:
        """Delete an exchange."""
        with self._lock:
            self._missing.add(name)

    def go_away(self, reason: str = "connection refused") -> None:
        """Refuse connections, and drop those that are open."""
        with self._lock:
            self._away = reason

    def recover(self) -> None:
        """Remove all rules, and accept connections again. Messages are kept."""
        with self._lock:
            self._rules.clear()
            self._missing.clear()
            self._away = None

    def clear(self) -> None:
        """Delete the stored messages."""
        with self._lock:
            self._messages.clear()

    @property
    def away_reason(self) -> str | None:
        """Why it cannot be reached; None while it can."""
        return self._away

    def has_exchange(self, name: str) -> bool:
        """Whether it has an exchange."""
        return name not in self._missing

    def take(self, message: ReceivedMessage) -> Answer:
        """Store a message, or apply the rule for it."""
        with self._lock:
            rule = next((rule for rule in reversed(self._rules) if rule.is_about(message)), None)
            if rule is not None and rule.times is not None:
                rule.times -= 1
            answer = rule.answer if rule is not None else Answer.ACK
            if answer is Answer.RETURN and not message.mandatory:
                # Not mandatory: dropped, and acked.
                return Answer.ACK
            if answer is Answer.ACK or (rule is not None and rule.stored):
                self._messages.append(message)
            return answer

    def _behave(self, rule: _Rule) -> None:
        if rule.times is not None and rule.times < 1:
            raise ValueError(f"times is a number above zero, not {rule.times!r}.")
        with self._lock:
            self._rules.append(rule)


def decoded(data: bytes) -> ReceivedMessage:
    """Decode a message from its frames, as the broker does."""
    publish, header, *bodies = _frames(data)
    return ReceivedMessage(
        publish.method.exchange,
        publish.method.routing_key,
        b"".join(body.fragment for body in bodies),
        header.properties,
        publish.method.mandatory,
    )


def longest_frame(data: bytes) -> int:
    """The size in bytes of the longest frame; the broker closes the connection if it exceeds ``frame_max``."""
    return max(size for size, _ in _sized_frames(data))


def _frames(data: bytes) -> list[Any]:
    return [decoded_frame for _, decoded_frame in _sized_frames(data)]


def _sized_frames(data: bytes) -> Iterator[tuple[int, Any]]:
    while data:
        size, decoded_frame = frame.decode_frame(data)
        assert size, "an incomplete frame"
        yield size, decoded_frame
        data = data[size:]
