"""Waits for a database that is away when the relay starts. A stop request ends the wait."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from signalbus_core.lowlevel import error_text, stop_requests

from ...servers.reconnect import Schedule
from ...telemetry.incidents import Incidents
from ..databases import is_refused_login

logger = logging.getLogger("signalbus.relay")

T = TypeVar("T")

#: The subject of the incident, the same as in the running relay.
DATABASE = "Database"


class StoppedWaitingError(Exception):
    """There was a stop request."""


def retry_until_available(
    query: Callable[[], T],
    timeout_seconds: float | None,
    schedule: Schedule | None = None,
    on_away: Callable[[str], object] = lambda reason: None,
) -> T:
    """Call ``query`` until the database answers; return the result.

    :param query: raises ``SQLAlchemyError`` while the database is away.
    :param timeout_seconds: for how long to try; None for as long as it takes.
    :param on_away: called with the reason, after each attempt that failed.
    :raises sqlalchemy.exc.SQLAlchemyError: it did not answer in time.
    :raises StoppedWaitingError: there was a stop request.
    """
    schedule = schedule or Schedule()
    incidents = Incidents(logger)
    started = time.monotonic()
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    with stop_requests(requests.put):
        while True:
            try:
                answer = query()
            except SQLAlchemyError as error:
                if timeout_seconds is not None and time.monotonic() - started >= timeout_seconds:
                    raise
                reason = error_text(error)
                on_away(reason)
                incidents.raised(DATABASE, "database_down", reason)
                now = time.monotonic()
                schedule.failed(now, reason, was_refused=is_refused_login(error))
                _wait(requests, schedule.wait_seconds(now))
            else:
                incidents.resolved(DATABASE, "database_up")
                return answer


def _wait(requests: queue.SimpleQueue[str], seconds: float) -> None:
    try:
        name = requests.get(timeout=seconds)
    except queue.Empty:
        return
    raise StoppedWaitingError(name)
