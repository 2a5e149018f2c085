"""The backlog of each signal model, its age, and why it is not sent. Reads, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core.lowlevel import (
    BurstLimits,
    SignalSpec,
    error_text,
    measure,
    oldest_age_seconds,
    parked_table_of,
    parked_table_problem,
)

from ..application.databases import Databases
from .pauses import list_pauses

#: Counting stops here unless every signal is to be counted.
COUNTED_TO = 10_000

#: A locked table fails soon; counting a big one may take long.
LIMITS = BurstLimits(statement_timeout_seconds=600.0, lock_timeout_seconds=3.0, idle_timeout_seconds=60.0)


@dataclass(frozen=True)
class Backlog:
    """The backlog of one model.

    :param signals: how many are in the table; None when it cannot be read.
    :param is_exact: False when there may be more.
    :param oldest_age_seconds: None when there is no signal, or its age is not known.
    :param waiting: how many wait for their next try; None without the table ``signalbus_parked``.
    :param parked: how many wait for a person; None without that table.
    :param trouble: why the table cannot be read; None when it can.
    """

    model: str
    signals: int | None = None
    is_exact: bool = True
    oldest_age_seconds: float | None = None
    waiting: int | None = None
    parked: int | None = None
    paused_at: datetime | None = None
    pause_reason: str | None = None
    trouble: str | None = None


class Backlogs:
    """The backlogs of an application's models."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def measure(self, models: tuple[str, ...] = (), *, is_exact: bool = False) -> list[Backlog]:
        """The backlog of these models, or of all. A table that cannot be read hides no other model.

        :param is_exact: count every signal, however many there are.
        :raises NotFoundError: there is no such model.
        """
        chosen = [self._databases.spec(model) for model in dict.fromkeys(models)] or self._databases.specs
        return [self._measure(spec, None if is_exact else COUNTED_TO) for spec in chosen]

    def _measure(self, spec: SignalSpec, most: int | None) -> Backlog:
        try:
            with self._databases.transaction(spec.bind_key) as connection:
                return _backlog(connection, spec, most)
        except SQLAlchemyError as error:
            return Backlog(spec.name, trouble=error_text(error))


def _backlog(connection: Connection, spec: SignalSpec, most: int | None) -> Backlog:
    has_parked = parked_table_problem(connection, parked_table_of(spec)) is None
    [measured] = measure(connection, [spec], most, has_parked_table=has_parked)
    pause = next(iter(list_pauses(connection, [spec])), None)
    return Backlog(
        spec.name,
        measured.backlog,
        most is None or measured.backlog < most,
        oldest_age_seconds(connection, spec, most) if measured.backlog else None,
        measured.waiting if has_parked else None,
        measured.parked if has_parked else None,
        pause.paused_at if pause else None,
        pause.reason if pause else None,
    )
