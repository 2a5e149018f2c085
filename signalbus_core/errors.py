"""The outcome of one message, which has exactly four kinds, and the tree of errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class OutcomeKind(Enum):
    """The four things that can be known about a message after an attempt to publish it.

    - ``ACKED``: the broker confirmed the message and did not return it. It is stored.
    - ``REFUSED``: the broker answered, and did not take it: it was returned as unroutable, nacked, or its
      exchange is missing or this user has no permission for it. The *destination* is at fault.
    - ``INVALID``: the message itself is wrong: it was never sent, or the broker refused it as malformed.
    - ``UNKNOWN``: no answer. The broker may or may not have the message.
    """

    ACKED = "acked"
    REFUSED = "refused"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one message.

    :param kind: what is known about the message.
    :param reason: for people: the text of the broker or the encoder. Never contains the body. Empty when acked.
    :param cause: for metrics: refines ``kind``: ``"returned"`` or ``"nacked"`` for a ``REFUSED`` message, ``"closed"``
      or ``"silent"`` for an ``UNKNOWN`` one; otherwise the same word as the kind. Closed means that the broker closed
      the connection because of a message, and this is one of several that may be the cause: sending them again by
      bisection finds it. Silent means that its destination does not confirm while others do.
    :param was_sent: whether any part of it may have been sent; when not, the broker cannot have it.
    :param destination: who refused it, for people. When several failed signals have the same destination, a relay
      tries one of them, and the others after that one has arrived. None: each is tried.
    """

    kind: OutcomeKind
    reason: str = ""
    cause: str = ""
    was_sent: bool = True
    destination: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.cause:
            object.__setattr__(self, "cause", self.kind.value)

    @property
    def is_unanswered(self) -> bool:
        """Whether the cause is an outage, and not the message."""
        return self.kind is OutcomeKind.UNKNOWN and self.cause == OutcomeKind.UNKNOWN.value

    @property
    def may_be_stored(self) -> bool:
        """Whether the broker has or may have the message, so that a resend may be a duplicate."""
        return self.kind is OutcomeKind.ACKED or (self.kind is OutcomeKind.UNKNOWN and self.was_sent)

    @property
    def is_of_destination(self) -> bool:
        """Whether the cause is the destination, and not the message."""
        return self.kind is OutcomeKind.REFUSED or self.cause == "silent"

    def __str__(self) -> str:
        return f"{self.cause}: {self.reason}" if self.reason else self.cause


#: The one outcome that allows a signal to be deleted.
ACKED = Outcome(OutcomeKind.ACKED)

_WORST_FIRST = (OutcomeKind.UNKNOWN, OutcomeKind.INVALID, OutcomeKind.REFUSED, OutcomeKind.ACKED)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a signal with several messages: unknown comes first, then invalid, then refused."""
    return min(outcomes, key=lambda outcome: _WORST_FIRST.index(outcome.kind), default=ACKED)


@dataclass(frozen=True)
class Proved:
    """A signal that was proved sent, and is still in its table. It must be deleted, and never sent again.

    :param key: its primary key, as a tuple.
    :param version: the transaction that wrote its row (``xmin``, as text). A row with another ``xmin`` is another
      signal with the same key. None where the database has no such column.
    :param row: the id of its row, by which it is found where Python reads its key as another; None when not known.
    """

    key: tuple[Any, ...]
    version: str | None
    row: str | None = None


def counted(number: int, what: str = "signal", verb: str = "") -> str:
    """A number of things, for people: ``1 signal``, ``2 signals``; with a verb, ``1 signal of Order was``."""
    many = {"was": "were", "is": "are", "has": "have"}
    text = f"{number:,} {what}" if number == 1 else f"{number:,} {what.replace('signal', 'signals', 1)}"
    return f"{text} {verb if number == 1 else many[verb]}" if verb else text


class SignalBusError(Exception):
    """The root of all errors of Signalbus."""


class SetupError(SignalBusError, RuntimeError):
    """The extension is wired wrongly, configured wrongly, or used before ``init_app``."""


class SignalModelError(SignalBusError, RuntimeError):
    """A model violates the signal-model contract; the message says how, and what to do."""


class TransactionStateError(SignalBusError, RuntimeError):
    """The call is not allowed in the current state of the session's transaction; nothing was changed."""


class MessageIdError(SignalBusError, ValueError):
    """A message has no id, or one that cannot identify it, so the inbox cannot tell whether it is new."""


class DBSerializationError(SignalBusError):
    """The transaction is rolled back due to a race condition."""


class BurstError(SignalBusError):
    """A burst could not be finished; its transaction was rolled back.

    :param proved: those of its signals that were sent, but not deleted because the database was unavailable. The caller
      can delete them later by :func:`signalbus_core.delete_sent`; otherwise they are sent again.
    """

    def __init__(self, message: str, *, proved: Iterable[Proved] = ()) -> None:
        self.proved = tuple(proved)
        super().__init__(message)

    @property
    def sent(self) -> int:
        """How many of its signals had been sent."""
        return len(self.proved)


class UnreadableSignalError(SignalBusError):
    """Signals were not sent: the model cannot load their columns, or the database would not let them be deleted.

    They are still in their table.

    :param keys: their primary keys, as tuples. The message shows none of their values.
    """

    def __init__(self, message: str, keys: Iterable[tuple[Any, ...]] = ()) -> None:
        self.keys = list(keys)
        super().__init__(message)


class PartialDeliveryError(SignalBusError):
    """Some signals of a burst are proved to have arrived, others are not.

    Any sender, for any broker, may raise it: the burst deletes exactly the ``delivered`` signals. The outcome of a
    signal that is in neither list is not known: it stays.

    :param delivered: the signals of which *every* message is confirmed.
    :param failed: pairs of a signal and the outcome that kept it from being delivered.
    """

    def __init__(self, delivered: Iterable[Any], failed: Iterable[tuple[Any, Outcome]] = ()) -> None:
        self.delivered: list[Any] = list(delivered)
        self.failed: list[tuple[Any, Outcome]] = list(failed)
        super().__init__(self.delivered, self.failed)

    def __repr__(self) -> str:
        return f"<PartialDeliveryError: {self}>"

    def __str__(self) -> str:
        first = f"; first: {self.failed[0][1]}" if self.failed else ""
        return f"{counted(len(self.delivered))} delivered, {len(self.failed)} not{first}"


class EndedEarlyError(PartialDeliveryError):
    """Sending took too long, and ended before all signals were sent; none has failed."""


class PublishError(SignalBusError):
    """Not every message was confirmed.

    :param outcomes: one :class:`Outcome` for each message, in the order in which they were given.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes: tuple[Outcome, ...] = tuple(outcomes)
        super().__init__(self.outcomes)

    def __repr__(self) -> str:
        return f"<PublishError: {self}>"

    def __str__(self) -> str:
        bad = [outcome for outcome in self.outcomes if outcome.kind is not OutcomeKind.ACKED]
        first = f"; first: {bad[0]}" if bad else ""
        return f"{len(bad)} of {len(self.outcomes)} messages were not confirmed{first}"
