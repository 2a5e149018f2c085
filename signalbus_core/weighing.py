"""How much a burst's messages weigh: said by whoever encodes them, to whoever called the send method.

A sender that says nothing is not weighed. What is said in another thread than the burst's is heard by nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Scale:
    """Adds up what is said while it is listening; None as long as nothing was said."""

    def __init__(self) -> None:
        self.message_bytes: int | None = None


_listening: ContextVar[Scale | None] = ContextVar("signalbus_scale", default=None)


@contextmanager
def weighing() -> Iterator[Scale]:
    """Hear what is said in the block."""
    scale = Scale()
    token = _listening.set(scale)
    try:
        yield scale
    finally:
        _listening.reset(token)


def weigh(message_bytes: int) -> None:
    """Say that so many bytes of messages are about to be sent."""
    scale = _listening.get()
    if scale is not None:
        scale.message_bytes = (scale.message_bytes or 0) + message_bytes
