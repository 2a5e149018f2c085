"""Progress within a burst: the sender reports it to the code that runs the burst.

A long burst is healthy as long as it makes progress. A report from another thread than the burst's is ignored.
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

#: If sending takes longer, the next burst is halved; where signals are sent one by one, the burst ends, and the sent
#: ones are deleted. Longer: fewer, larger bursts on slow links, closer to the timeouts of publishing (30 s) and of the
#: idle transaction (120 s), after which all of the burst is sent again.
LONG_SEND_SECONDS = 10.0

_listening: ContextVar[Callable[[], object] | None] = ContextVar("signalbus_heartbeat", default=None)


@contextmanager
def hearing(on_beat: Callable[[], object] | None) -> Iterator[None]:
    """Call ``on_beat`` for progress within the block, in the thread that reports it."""
    token = _listening.set(on_beat)
    try:
        yield
    finally:
        _listening.reset(token)


def beat() -> None:
    """Report that some signals or messages were confirmed."""
    on_beat = _listening.get()
    if on_beat is not None:
        on_beat()


class Heartbeat:
    """Receives the progress of the send method, and keeps the burst's transaction from its idle timeout.

    :param idle_timeout_seconds: ``idle_in_transaction_session_timeout`` of the transaction.
    :param said: when the last statement was sent to the database, by the clock.
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
                # The sent signals are then deleted in a separate transaction.
                logger.debug("The burst's transaction is lost.", exc_info=True)
