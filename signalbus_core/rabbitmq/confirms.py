"""Which messages of one batch the broker has answered. Pure bookkeeping: no sockets, no pika types.

An unroutable mandatory message is returned first and acked after, so an ack alone never means that a queue has it. A
``basic.return`` carries no delivery tag: it is matched by content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..errors import ACKED, Outcome, OutcomeKind

NACKED = Outcome(OutcomeKind.REFUSED, "the broker could not take the message (basic.nack)", cause="nacked")
AMBIGUOUS = Outcome(OutcomeKind.UNKNOWN, "a message like this one was returned, and it cannot be told which")


class UnexpectedConfirmError(Exception):
    """The broker answered for a message that was never sent; its answers can no longer be trusted."""


@dataclass(frozen=True)
class Content:
    """Identifies a returned message. Two messages with equal content are interchangeable."""

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


@dataclass(frozen=True)
class _Return:
    """A return, and the messages that it may be about: they are interchangeable, and were not answered yet."""

    candidates: tuple[int, ...]
    outcome: Outcome


class Confirms:
    """The answers for messages with consecutive delivery tags.

    :param first_tag: the delivery tag of the first message.
    :param count: how many messages were sent.
    :param content_of: returns the content of a message by its index. Called only after a return.
    """

    def __init__(self, first_tag: int, count: int, content_of: Callable[[int], Content]) -> None:
        self._first_tag = first_tag
        self._outcomes: list[Outcome | None] = [None] * count
        self._content_of = content_of
        self._returns: list[_Return] = []
        self._ambiguous: set[int] = set()
        self._unanswered = count
        # All messages below this index are answered, so that an answer for many visits no message twice.
        self._lowest = 0
        self._early = 0
        self._by_identity: dict[tuple[str, str, str | None, bytes], list[int]] | None = None

    @property
    def unanswered(self) -> int:
        """How many messages are not answered."""
        return self._unanswered

    @property
    def is_done(self) -> bool:
        """Whether every message is answered."""
        return self._unanswered == 0

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Record a ``basic.ack``.

        :raises UnexpectedConfirmError: for a tag that was never used.
        """
        self._answer(tag, multiple, ACKED)

    def nack(self, tag: int, *, multiple: bool) -> None:
        """Record a ``basic.nack``.

        :raises UnexpectedConfirmError: for a tag that was never used.
        """
        self._answer(tag, multiple, NACKED)

    def returned(self, content: Content, reason: str) -> None:
        """Record a ``basic.return``. It arrives before the ack of its message, so that message is still unanswered.

        When no unanswered message has the same content, all with the same address become unknown: their acks prove
        nothing.
        """
        candidates = [index for index in self._indexes().get(content.identity, ()) if self._outcomes[index] is None]
        same = [index for index in candidates if (self._content_of(index).headers or {}) == (content.headers or {})]
        if candidates:
            self._returns.append(
                _Return(tuple(same or candidates), Outcome(OutcomeKind.REFUSED, reason, cause="returned"))
            )
            return
        for indexes in self._indexes().values():
            for index in indexes:
                if self._outcomes[index] is None and self._content_of(index).address == content.address:
                    self._ambiguous.add(index)

    def outcomes(self, unanswered: Outcome) -> list[Outcome]:
        """The outcome of each message, in order; ``unanswered`` for those that the broker has not answered.

        A returned message is refused even before its ack. Of equal messages it is not known which was returned: one
        that was acked is chosen, so that no more of them count as stored than are.
        """
        if self._unanswered == 0 and not self._returns and not self._ambiguous:
            return cast("list[Outcome]", self._outcomes)
        found = list(self._outcomes)
        taken = set(self._ambiguous)
        for index in self._ambiguous:
            found[index] = AMBIGUOUS
        # Start with the last return, which has the fewest candidates.
        for one in reversed(self._returns):
            free = [index for index in one.candidates if index not in taken]
            acked = [index for index in free if self._outcomes[index] is ACKED]
            not_nacked = [index for index in free if self._outcomes[index] is not NACKED]
            for index in (acked or not_nacked or free)[:1]:
                taken.add(index)
                found[index] = one.outcome
        return [outcome or unanswered for outcome in found]

    def _indexes(self) -> dict[tuple[str, str, str | None, bytes], list[int]]:
        if self._by_identity is None:
            self._by_identity = {}
            for index in range(len(self._outcomes)):
                content = self._content_of(index)
                if content.mandatory:
                    self._by_identity.setdefault(content.identity, []).append(index)
        return self._by_identity

    def _answer(self, tag: int, multiple: bool, outcome: Outcome) -> None:
        # Delivery tag zero means all messages so far.
        index = len(self._outcomes) - 1 if multiple and tag == 0 else tag - self._first_tag
        if index >= len(self._outcomes) or tag < 0 or (tag == 0 and not multiple):
            raise UnexpectedConfirmError(f"the broker answered for delivery tag {tag}, which was never sent")
        if multiple:
            self._settle_up_to(index, outcome)
        else:
            self._settle(index, outcome)

    def _settle_up_to(self, index: int, outcome: Outcome) -> None:
        count = index + 1 - self._lowest
        if count <= 0:
            return
        if self._early:
            for number in range(self._lowest, index + 1):
                self._settle(number, outcome)
            return
        # One slice assignment instead of a loop over the messages.
        self._outcomes[self._lowest : index + 1] = [outcome] * count
        self._unanswered -= count
        self._lowest = index + 1

    def _settle(self, index: int, outcome: Outcome) -> None:
        # Below zero: a late answer for an earlier batch on this channel.
        if index < self._lowest or self._outcomes[index] is not None:
            return
        self._outcomes[index] = outcome
        self._unanswered -= 1
        self._early += 1
        while self._lowest < len(self._outcomes) and self._outcomes[self._lowest] is not None:
            self._lowest += 1
            self._early -= 1
