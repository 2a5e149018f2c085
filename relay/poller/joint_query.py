"""One query for all tables of a database; on an error, one query for each table.

Invariant: a table that is dropped, altered, locked or slow keeps no other model from being polled. A server that ends a
statement by its time limit is there: however many tables are slow, each model is told of, and not the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError

from signalbus_core.lowlevel import BurstLimits, SignalSpec, error_text

from ..telemetry.events import Events

T = TypeVar("T")

#: Time limits of a poll. It reads little; when it waits, something is wrong, and other models should not wait too. A
#: locked table is waited for twice: with all, and alone.
POLL_LIMITS = BurstLimits(statement_timeout_seconds=10.0, lock_timeout_seconds=1.0, idle_timeout_seconds=10.0)

#: The largest number of models in one query. Larger: fewer statements; smaller: when a table fails, fewer models are
#: queried one by one, and PostgreSQL plans faster: a statement about a hundred models takes it twice as long per model.
QUERIED_TOGETHER = 50

#: After so many models that timed out, the others wait for the next poll, which leaves these out. Larger: a poll takes
#: longer, and its thread does not tell of progress meanwhile.
MOST_SLOW = 3

#: SQLSTATE of a lock timeout, and of a statement timeout.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"


class JointQuery:
    """Queries all models together; when a table fails, each model alone.

    :param why_unreadable: why a statement about a model failed, in words for people.
    """

    def __init__(self, events: Events, why_unreadable: Callable[[SignalSpec, DBAPIError], str]) -> None:
        self._events = events
        self._why_unreadable = why_unreadable
        # Why the tables of models could not be scanned in this poll, and not be measured at last, by the model's name.
        self._unscanned: dict[str, str] = {}
        self._unmeasured: dict[str, str] = {}
        # A table that ran into a lock timeout is not queried again in the same poll.
        self._passed_over: set[str] = set()
        self._slow = 0
        self._is_scan = self._measures = False
        self._slow_models: set[str] = set()

    def begin_poll(self) -> None:
        self._passed_over.clear()
        self._unscanned.clear()
        self._slow = 0

    def begin_measuring(self) -> None:
        """All models are about to be measured, which is not done in every poll."""
        self._unmeasured.clear()

    @property
    def unread(self) -> dict[str, str]:
        """Why the tables of models cannot be read, by the model's name."""
        return self._unmeasured | self._unscanned

    def passed_over(self, spec: SignalSpec) -> bool:
        """Whether the model's table failed in this poll."""
        return spec.name in self._passed_over

    @property
    def has_passed_over(self) -> bool:
        """Whether any table failed in this poll."""
        return bool(self._passed_over)

    def together_or_alone(
        self,
        specs: Sequence[SignalSpec],
        query: Callable[[Sequence[SignalSpec]], list[T]],
        on_error: Callable[[], None],
        *,
        is_scan: bool = False,
        measures: bool = False,
    ) -> list[T]:
        """The results of the models whose tables can be queried.

        :param on_error: called when a table fails.
        :param is_scan: they look for signals, so that a model for which that takes too long is stuck.
        :param measures: they count signals; not every poll does.
        """
        self._is_scan, self._measures = is_scan, measures
        answers: list[T] = []
        for first in range(0, len(specs), QUERIED_TOGETHER):
            answers += self._together_or_alone(specs[first : first + QUERIED_TOGETHER], query, on_error)
        return answers

    def _together_or_alone(
        self,
        specs: Sequence[SignalSpec],
        query: Callable[[Sequence[SignalSpec]], list[T]],
        on_error: Callable[[], None],
    ) -> list[T]:
        if self._slow >= MOST_SLOW:
            self._passed_over |= {spec.name for spec in specs}
            return []
        try:
            return query(specs)
        except DBAPIError as error:
            if not _concerns_one_table(error):
                raise
            if not is_statement_timeout(error):
                on_error()
            if len(specs) == 1:
                self._pass_over(specs[0], None, error)
                return []
            return self._alone(specs, query)

    def _alone(self, specs: Sequence[SignalSpec], query: Callable[[Sequence[SignalSpec]], list[T]]) -> list[T]:
        answers: list[T] = []
        for spec in specs:
            if self._slow >= MOST_SLOW:
                self.pass_over(spec)
                continue
            with self.hiding_no_other(spec):
                answers += query([spec])
        return answers

    def one_by_one(
        self, specs: Iterable[SignalSpec], thing: Callable[[str], str], read: Callable[[SignalSpec], T]
    ) -> dict[str, T]:
        """What is read of models beside their signals; without those of which that cannot be read now.

        :param thing: the subject of the incident that it cannot, by the model's name.
        """
        answers: dict[str, T] = {}
        for spec in specs:
            if self._slow >= MOST_SLOW:
                break
            with self.hiding_no_other(spec, thing(spec.name)):
                answers[spec.name] = read(spec)
        return answers

    @contextmanager
    def hiding_no_other(self, spec: SignalSpec, thing: str | None = None) -> Iterator[None]:
        """Raise an incident for a table that was dropped, altered or locked; the others are polled all the same.

        :param thing: the subject of the incident, which ends when that is not so; when not given it is the model, for
            which that alone does not tell that it works again.
        """
        try:
            yield
        except DBAPIError as error:
            if not _concerns_one_table(error):
                raise
            self._pass_over(spec, thing, error)
        else:
            if thing is not None:
                self._events.resolved(thing, "model_recovered", spec.name)

    def scanned(self, names: Iterable[str]) -> None:
        """The tables of these models were scanned in time."""
        for name in self._slow_models.intersection(names):
            self._slow_models.remove(name)
            self._events.model_stuck(name, "slow", None)

    def pass_over(self, spec: SignalSpec) -> None:
        """Leave the model out of this poll."""
        self._passed_over.add(spec.name)

    def _pass_over(self, spec: SignalSpec, thing: str | None, error: DBAPIError) -> None:
        self._passed_over.add(spec.name)
        reason, is_slow = error_text(error), is_statement_timeout(error)
        self._slow += is_slow
        if thing is not None:
            # Something else was read: this tells nothing about the scan before it.
            self._events.raised(thing, "model_failing", reason, spec.name)
            return
        if is_slow:
            reason = (
                f"looking for signals in {spec.table.fullname!r} takes too long, as it does where dead rows gather that"
                f" VACUUM cannot remove, or where the server is overloaded; other models are looked at without it."
                f" Look for old transactions: {reason}"
            )
            if self._is_scan:
                self._slow_models.add(spec.name)
                self._events.model_stuck(spec.name, "slow", reason)
                return
        else:
            reason = self._why_unreadable(spec, error)
            if self._measures:
                self._unmeasured[spec.name] = reason
            else:
                self._unscanned[spec.name] = reason
        self._events.raised(spec.name, "model_failing", reason, spec.name)


def _concerns_one_table(error: DBAPIError) -> bool:
    """Whether a table or a row is at fault (gone, altered, locked, slow or invalid), not the database."""
    if isinstance(error, (ProgrammingError, DataError)):
        return True
    return is_lock_timeout(error) or is_statement_timeout(error)


def is_lock_timeout(error: DBAPIError) -> bool:
    """Whether a lock timed out."""
    return _code(error) == LOCK_NOT_AVAILABLE


def is_statement_timeout(error: DBAPIError) -> bool:
    """Whether a statement was cancelled by its time limit."""
    return _code(error) == QUERY_CANCELED


def _code(error: DBAPIError) -> str | None:
    # psycopg2 and psycopg name the SQLSTATE differently.
    return getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None)
