"""Progress within a burst: the sender reports it to the code that runs the burst.

A long burst is healthy as long as it makes progress. A sender also reports the size of its messages; without such a
report it is unknown. Another thread that runs in the burst's context may report, too, but only the thread of the burst
asks its database: a connection is of one thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
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

_current: ContextVar[ProgressReporter | None] = ContextVar("signalbus_progress", default=None)


def report_progress() -> None:
    """Report that messages were confirmed, or that the broker has blocked or unblocked the connection."""
    reporter = _current.get()
    if reporter is not None:
        reporter.report_progress()


def report_bytes(message_bytes: int) -> None:
    """Report that so many bytes of messages are about to be sent."""
    reporter = _current.get()
    if reporter is not None:
        reporter.message_bytes = (reporter.message_bytes or 0) + message_bytes


def holds_locks(*, ask: bool = False) -> bool:
    """Whether the burst's transaction, and with it the locks of its rows, is there still, as far as is known.

    When it is gone, another relay may have sent the signals. True where no burst runs.

    :param ask: ask the database now, in the thread of the burst.
    """
    reporter = _current.get()
    return reporter is None or reporter.holds_locks(ask)


class ProgressReporter:
    """Receives the reports within its block, and keeps the burst's transaction from its idle timeout.

    :param idle_timeout_seconds: ``idle_in_transaction_session_timeout`` of the transaction.
    :param last_statement: when the last statement was sent to the database, by the clock.
    """

    def __init__(
        self,
        session: Session,
        connection: Connection,
        idle_timeout_seconds: float,
        clock: Callable[[], float],
        last_statement: float,
        on_progress: Callable[[], object] | None,
    ) -> None:
        self._session = session
        self._transaction = session.get_transaction()
        self._connection = connection
        self._every_seconds = idle_timeout_seconds / 4
        self._clock = clock
        self._on_progress = on_progress
        self._last_statement = last_statement
        self._is_lost = False
        #: The reported size of the messages; None while nothing was reported.
        self.message_bytes: int | None = None

    def __enter__(self) -> ProgressReporter:
        self._thread = threading.get_ident()
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)

    def report_progress(self) -> None:
        if self._on_progress is not None:
            self._on_progress()
        if self._clock() - self._last_statement >= self._every_seconds:
            self._ask()

    def holds_locks(self, ask: bool) -> bool:
        if ask:
            self._ask()
        return not self._is_lost

    def _ask(self) -> None:
        if threading.get_ident() != self._thread:
            return
        self._last_statement = self._clock()
        if self._session.get_transaction() is self._transaction:
            try:
                self._connection.execute(text("SELECT 1"))
            except SQLAlchemyError:
                # The sent signals are then deleted in a separate transaction.
                self._is_lost = True
                logger.debug("The burst's transaction is lost.", exc_info=True)
