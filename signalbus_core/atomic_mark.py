"""The mark of a session whose transaction belongs to an atomic block, or to a burst: nobody else may end it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

_MARK = "signalbus_atomic"


def in_atomic_block(session: Session) -> bool:
    """Whether an atomic block is open on the session."""
    return bool(session.info.get(_MARK))


@contextmanager
def atomic_mark(session: Session) -> Iterator[None]:
    """Mark the session. Atomic blocks that are entered in this context do nothing of their own."""
    before = in_atomic_block(session)
    session.info[_MARK] = True
    try:
        yield
    finally:
        session.info[_MARK] = before
