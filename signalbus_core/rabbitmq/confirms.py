"""Which messages of one burst the broker has answered for. Pure bookkeeping: no sockets, no pika types.

A mandatory message that no queue wanted is returned first and acked after, so an ack alone never means that a queue has
it. A return carries no delivery tag: it is matched by what it contains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..outcome import ACKED, Outcome, OutcomeKind

NACKED = Outcome(OutcomeKind.REFUSED, "the broker could not take the message (basic.nack)", cause="nacked")
AMBIGUOUS = Outcome(OutcomeKind.UNKNOWN, "a message like this one was returned, and it cannot be told which")


class UnexpectedConfirmError(Exception):
    """The broker answered for a message that was never sent; its answers cannot be trusted any more."""


@dataclass(frozen=True)
class Content:
    """What identifies a message when it is returned. Two messages equal in all of it are interchangeable."""

    exchange: str
    routing_key: str
    message_id: str | None
    body: bytes
    headers: Mapping[str, Any] | None
    mandatory: bool = True

    @property
    def address(self) -> tuple[str, str]:
        return self.exchange, self.routing_key

    @property
    def identity(self) -> tuple[str, str, str | None, bytes]:
        return self.exchange, self.routing_key, self.message_id, self.body


class Confirms:
    """The answers for messages with consecutive delivery tags.

    :param first_tag: the delivery tag of the first message.
    :param count: how many messages were sent.
    :param content_of: tells what a message (by its index) contains. Asked only when something is returned.
    """

    def __init__(self, first_tag: int, count: int, content_of: Callable[[int], Content]) -> None:
        self._first_tag = first_tag
        self._outcomes: list[Outcome | None] = [None] * count
        self._content_of = content_of
        self._returned: dict[int, Outcome] = {}
        self._unanswered = count
        # All below are answered: an answer for many looks at each message only once, however many such answers come.
        self._lowest = 0
        self._by_identity: dict[tuple[str, str, str | None, bytes], list[int]] | None = None

    @property
    def is_done(self) -> bool:
        """Whether every message is answered for."""
        return self._unanswered == 0

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Note a ``basic.ack``.

        :raises UnexpectedConfirmError: for a tag that was never used.
        """
        self._answer(tag, multiple, ACKED)

    def nack(self, tag: int, *, multiple: bool) -> None:
        """Note a ``basic.nack``.

        :raises UnexpectedConfirmError: for a tag that was never used.
        """
        self._answer(tag, multiple, NACKED)

    def returned(self, content: Content, reason: str) -> None:
        """Note a ``basic.return``. It comes before the ack of its message.

        Of the messages that it may be, the first one is taken, and one with equal headers before others. When none has
        the same content, all unanswered ones with the same address become unknown: no ack of theirs proves anything.
        """
        outcome = Outcome(OutcomeKind.REFUSED, reason, cause="returned")
        candidates = [index for index in self._indexes().get(content.identity, ()) if self._is_open(index)]
        if candidates:
            same = [index for index in candidates if (self._content_of(index).headers or {}) == (content.headers or {})]
            self._returned[(same or candidates)[0]] = outcome
            return
        for indexes in self._indexes().values():
            for index in indexes:
                if self._is_open(index) and self._content_of(index).address == content.address:
                    self._returned[index] = AMBIGUOUS

    def outcomes(self, unanswered: Outcome) -> list[Outcome]:
        """The outcome of each message, in order; ``unanswered`` for those that the broker has not answered for.

        A returned message that has not been acked yet is refused all the same.
        """
        return [outcome or self._returned.get(index, unanswered) for index, outcome in enumerate(self._outcomes)]

    def _is_open(self, index: int) -> bool:
        return self._outcomes[index] is None and index not in self._returned

    def _indexes(self) -> dict[tuple[str, str, str | None, bytes], list[int]]:
        if self._by_identity is None:
            self._by_identity = {}
            for index in range(len(self._outcomes)):
                content = self._content_of(index)
                if content.mandatory:
                    self._by_identity.setdefault(content.identity, []).append(index)
        return self._by_identity

    def _answer(self, tag: int, multiple: bool, outcome: Outcome) -> None:
        # A tag of zero stands for all messages so far.
        index = len(self._outcomes) - 1 if multiple and tag == 0 else tag - self._first_tag
        if index >= len(self._outcomes) or tag < 0 or (tag == 0 and not multiple):
            raise UnexpectedConfirmError(f"the broker answered for delivery tag {tag}, which was never sent")
        for answered in range(self._lowest, index + 1) if multiple else (index,):
            self._settle(answered, outcome)
        if multiple:
            self._lowest = max(self._lowest, index + 1)

    def _settle(self, index: int, outcome: Outcome) -> None:
        # Below zero: an answer for an earlier burst on this channel, which did not wait for it any more.
        if index < 0 or self._outcomes[index] is not None:
            return
        self._outcomes[index] = self._returned.get(index, outcome)
        self._unanswered -= 1
