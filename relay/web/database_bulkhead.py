"""A bulkhead for database queries of requests: one at a time, on separate connections, with a time limit.

Invariant: a database that hangs blocks one thread of the bulkhead only. The threads that serve requests go on, and so
do the workers, whose connections are not used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import Conflict, HTTPException, NotFound, ServiceUnavailable

from signalbus_core.lowlevel import BurstLimits, error_text

from ..exit_codes import CommandError, NotFoundError

T = TypeVar("T")

#: Limits of each transaction. Longer: an operator waits longer for a discard that waits for a burst's row lock.
LIMITS = BurstLimits(statement_timeout_seconds=5.0, lock_timeout_seconds=3.0, idle_timeout_seconds=10.0)

#: A request waits so long for its turn, and so long for the database.
TURN_WITHIN_SECONDS = 1.5
ANSWER_WITHIN_SECONDS = 10.0


class DatabaseBulkhead:
    """Runs database work for requests.

    :param engines: for that work; no connection stays open for the next request.
    """

    def __init__(self, engines: Iterable[Engine] = ()) -> None:
        self._engines = tuple(engines)
        self._turn = threading.Lock()
        # One request works and one waits; with a longer queue all threads would wait.
        self._places = threading.BoundedSemaphore(2)

    def run(self, work: Callable[[], T], timeout_seconds: float = ANSWER_WITHIN_SECONDS) -> T:
        """Run database work.

        :raises HTTPException: it gets no turn, the database fails, or it takes too long.
        """
        if not self._places.acquire(blocking=False):
            raise _busy()
        try:
            if not self._turn.acquire(timeout=min(TURN_WITHIN_SECONDS, timeout_seconds)):
                raise _busy()
        except BaseException:
            self._places.release()
            raise
        return self._do(work, timeout_seconds)

    def _do(self, work: Callable[[], T], timeout_seconds: float) -> T:
        done = threading.Event()
        results: list[T] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                results.append(work())
            except Exception as error:  # noqa: BLE001 - it is raised in the thread of the request
                errors.append(error)
            finally:
                for engine in self._engines:
                    engine.dispose()
                self._leave()
                done.set()

        try:
            threading.Thread(target=run, name="http-database", daemon=True).start()
        except RuntimeError:
            # No thread can be started. The next request must not wait for this one.
            self._leave()
            raise _busy() from None
        if not done.wait(timeout_seconds):
            raise ServiceUnavailable(
                "The database takes long to answer. The action may still be carried out.", retry_after=5
            )
        if errors:
            raise _error_for_client(errors[0])
        return results[0]

    def _leave(self) -> None:
        self._turn.release()
        self._places.release()


def _busy() -> HTTPException:
    return ServiceUnavailable("Another request is using the database. Try again.", retry_after=1)


def _error_for_client(error: Exception) -> Exception:
    """The error for the client."""
    if isinstance(error, NotFoundError):
        return NotFound(str(error))
    if isinstance(error, CommandError):
        return Conflict(str(error))
    if isinstance(error, SQLAlchemyError):
        return ServiceUnavailable(f"The database failed: {error_text(error)}", retry_after=5)
    return error
