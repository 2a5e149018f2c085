"""The desk where requests ask a database: one at a time, on connections of its own, and with a limit to waiting.

A database that hangs keeps one thread that nobody else needs; those that answer requests go on, and so do the workers,
whose connections are not touched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core.lowlevel import BurstLimits, error_text

from ..exit_codes import CommandError
from .http import HttpError

T = TypeVar("T")

#: Of each transaction. Longer: an operator waits longer for a discard that a burst keeps waiting.
LIMITS = BurstLimits(statement_timeout_seconds=5.0, lock_timeout_seconds=3.0, idle_timeout_seconds=10.0)

#: So long a request waits for its turn, and so long for the database.
TURN_WITHIN_SECONDS = 1.5
ANSWER_WITHIN_SECONDS = 10.0


def engine_of_its_own(engine: Engine) -> Engine:
    """An engine that connects as this one does, and shares none of its connections."""
    return Engine(
        engine.pool.recreate(),
        engine.dialect,
        engine.url,
        # Where they translate schemas, the tables are elsewhere.
        execution_options=engine.get_execution_options(),
        hide_parameters=True,
    )


class DatabaseBulkhead:
    """Does database work for requests.

    :param engines: that it is done with; no connection stays open for the next request.
    """

    def __init__(self, engines: Iterable[Engine] = ()) -> None:
        self._engines = tuple(engines)
        self._turn = threading.Lock()
        # One works and one waits; a queue would take all threads.
        self._places = threading.BoundedSemaphore(2)

    def ask(self, work: Callable[[], T], patience_seconds: float = ANSWER_WITHIN_SECONDS) -> T:
        """Do something with a database.

        :raises HttpError: it is not this one's turn, the database fails, or it takes too long.
        """
        if not self._places.acquire(blocking=False):
            raise _busy()
        try:
            if not self._turn.acquire(timeout=min(TURN_WITHIN_SECONDS, patience_seconds)):
                raise _busy()
        except BaseException:
            self._places.release()
            raise
        return self._do(work, patience_seconds)

    def _do(self, work: Callable[[], T], patience_seconds: float) -> T:
        done = threading.Event()
        results: list[T] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                results.append(work())
            except Exception as error:  # noqa: BLE001 - it is raised in the thread that asked
                errors.append(error)
            finally:
                for engine in self._engines:
                    engine.dispose()
                self._leave()
                done.set()

        try:
            threading.Thread(target=run, name="http-database", daemon=True).start()
        except RuntimeError:
            # The machine has no thread to give. The next one that asks must not wait for this one.
            self._leave()
            raise _busy() from None
        if not done.wait(patience_seconds):
            raise HttpError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The database takes long to answer. What was asked for may still be done.",
                Retry_After="5",
            )
        if errors:
            raise _told(errors[0])
        return results[0]

    def _leave(self) -> None:
        self._turn.release()
        self._places.release()


def _busy() -> HttpError:
    return HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "The relay is asking the database. Try again.", Retry_After="1")


def _told(error: Exception) -> Exception:
    """The error as whoever asked is told of it."""
    if isinstance(error, CommandError):
        return HttpError(HTTPStatus.CONFLICT, str(error))
    if isinstance(error, SQLAlchemyError):
        return HttpError(HTTPStatus.SERVICE_UNAVAILABLE, f"The database failed: {error_text(error)}", Retry_After="5")
    return error
