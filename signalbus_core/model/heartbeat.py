"""Progress within a burst: said by whoever sends its signals, to whoever runs the burst.

A burst may take long and be well: what matters is whether broker or send method still answer. What is said in another
thread than the burst's is heard by nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

logger = logging.getLogger("signalbus")

#: A burst whose sending takes longer is halved; where signals are sent one by one, it ends there, and what was sent is
#: deleted. Longer: fewer and larger bursts on slow ways, nearer to the time limits of publishing (30 s) and of the idle
#: transaction (120 s), after which everything in it is sent again.
LONG_SEND_SECONDS = 10.0

_listening: ContextVar[Callable[[], object] | None] = ContextVar("signalbus_heartbeat", default=None)


@contextmanager
def hearing(on_beat: Callable[[], object] | None) -> Iterator[None]:
    """Have progress within the block reported to ``on_beat``, in the thread that makes it."""
    token = _listening.set(on_beat)
    try:
        yield
    finally:
        _listening.reset(token)


def beat() -> None:
    """Say that some signals, or messages, were answered."""
    on_beat = _listening.get()
    if on_beat is not None:
        on_beat()


class Heartbeat:
    """Hears that the send method makes progress, and keeps the burst's transaction from ending as idle meanwhile.

    :param idle_timeout_seconds: after which the database ends a transaction in which nothing happens.
    :param said: when the database was asked for something last, by the clock.
    """

    def __init__(
        self,
        session: Session,
        connection: Connection,
        idle_timeout_seconds: float,
        clock: Callable[[], float],
        said: float,
        on_progress: Callable[[], object] | None,
    ) -> None:
        self._session = session
        self._transaction = session.get_transaction()
        self._connection = connection
        self._every_seconds = idle_timeout_seconds / 4
        self._clock = clock
        self._on_progress = on_progress
        self._said = said

    def __call__(self) -> None:
        if self._on_progress is not None:
            self._on_progress()
        now = self._clock()
        if now - self._said < self._every_seconds:
            return
        self._said = now
        if self._session.get_transaction() is self._transaction:
            try:
                self._connection.execute(text("SELECT 1"))
            except SQLAlchemyError:
                # What was sent is deleted all the same, in a transaction of its own.
                logger.debug("The burst's transaction is lost.", exc_info=True)
