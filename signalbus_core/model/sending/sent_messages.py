"""Which messages a burst has made of its signals: their senders tell it, where the model keeps what was sent.

Nothing is asked of senders of other models, which costs them nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class SentMessage(NamedTuple):
    """Where a message went, and under which id."""

    message_id: str | None
    exchange: str | None
    routing_key: str | None


#: Returns the messages of a signal that was sent.
MessagesOf = Callable[[Any], Sequence[SentMessage]]


class SentMessages:
    """The messages of the signals of one burst."""

    def __init__(self) -> None:
        self._of: dict[int, Callable[[], Sequence[SentMessage]]] = {}

    def record(self, signal: Any, messages: Callable[[], Sequence[SentMessage]]) -> None:
        """A signal was published.

        :param messages: returns its messages; called when the signal is sent for certain.
        """
        self._of[id(signal)] = messages

    def of(self, signal: Any) -> Sequence[SentMessage]:
        """The messages of a signal; none where its sender did not tell them."""
        found = self._of.get(id(signal))
        return () if found is None else found()


_current: ContextVar[SentMessages | None] = ContextVar("signalbus_sent_messages", default=None)


def wanted_messages() -> SentMessages | None:
    """Where a sender records the messages of its signals; None where nobody wants to know."""
    return _current.get()


@contextmanager
def recording_messages(is_wanted: bool) -> Iterator[SentMessages | None]:
    """In the block, what is published is recorded, if it is wanted."""
    if not is_wanted:
        yield None
        return
    messages = SentMessages()
    token = _current.set(messages)
    try:
        yield messages
    finally:
        _current.reset(token)
