"""Asking the database about several models at once, so that the trouble of one table hides no other model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError

from signalbus_core import BurstLimits, SignalSpec, error_text

from .announce import Announcer

T = TypeVar("T")

#: Time limits of a probe. It reads little; when it waits, something is wrong, and other models should not wait too.
PROBE_LIMITS = BurstLimits(statement_timeout_seconds=10.0, lock_timeout_seconds=2.0, idle_timeout_seconds=10.0)

#: What PostgreSQL calls a lock that was not to be had in time.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
LOCK_NOT_AVAILABLE = "55P03"


class Asking:
    """Asks about all models together; when a table is no good, about each alone."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer
        # What waits for a lock once in a look need not wait again.
        self._passed_over: set[str] = set()

    def begin_look(self) -> None:
        self._passed_over.clear()

    def passed_over(self, spec: SignalSpec) -> bool:
        """Whether the model's table was no good in this look."""
        return spec.name in self._passed_over

    @property
    def has_passed_over(self) -> bool:
        """Whether any table was no good in this look."""
        return bool(self._passed_over)

    def together_or_alone(
        self,
        specs: Sequence[SignalSpec],
        ask: Callable[[Sequence[SignalSpec]], list[T]],
        on_trouble: Callable[[], None],
    ) -> list[T]:
        """The answers about the models whose tables answer.

        :param on_trouble: called when a table is no good.
        """
        try:
            return ask(specs)
        except DBAPIError as error:
            if not _concerns_one_table(error):
                raise
            on_trouble()
            if len(specs) == 1:
                self._pass_over(specs[0], specs[0].name, error)
                return []
            answers: list[T] = []
            for spec in specs:
                with self.hiding_no_other(spec):
                    answers += ask([spec])
            return answers

    @contextmanager
    def hiding_no_other(self, spec: SignalSpec, thing: str | None = None) -> Iterator[None]:
        """A table that was dropped, altered or locked is told of; the others are looked at all the same.

        :param thing: what the trouble is with; the model when not given.
        """
        try:
            yield
        except DBAPIError as error:
            if not _concerns_one_table(error):
                raise
            self._pass_over(spec, thing or spec.name, error)

    def _pass_over(self, spec: SignalSpec, thing: str, error: DBAPIError) -> None:
        self._passed_over.add(spec.name)
        self._announcer.trouble(thing, "model_failing", error_text(error), signal=spec.name)


def _concerns_one_table(error: DBAPIError) -> bool:
    """Whether a table or a row is to blame, because it is dropped, altered, locked or no good, and not the database."""
    if isinstance(error, (ProgrammingError, DataError)):
        return True
    return is_lock_timeout(error)


def is_lock_timeout(error: DBAPIError) -> bool:
    """Whether a lock was not to be had in time."""
    # psycopg2 and psycopg name it differently.
    code = getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None)
    return bool(code == LOCK_NOT_AVAILABLE)
