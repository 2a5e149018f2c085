"""Makes the messages of signals: as objects, or straight as frames. Invariant: both ways give the same bytes.

A draft stands for a message. Most are only encoded; the message itself is made where something is asked of it, as after
a ``basic.return``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from ...tracing import StoredContext, stored_context
from .encoder import Encoder
from .frames import EncodedMessage
from .message import Message, as_messages

S = TypeVar("S")


class MessageMaker(Generic[S]):
    """Makes messages by a function. Its drafts are the messages themselves.

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

    def encoding(self, encoder: Encoder) -> Callable[[Any], EncodedMessage]:
        """What encodes drafts; it raises :class:`InvalidMessageError` for those that cannot be sent."""
        return encoder.encode

    def trace_context(self, signal: S) -> StoredContext | None:
        """The trace context that was stored with a signal."""
        return stored_context(signal)


#: For messages that are given as they are.
AS_THEY_ARE: MessageMaker[Message] = MessageMaker(lambda message: message)
