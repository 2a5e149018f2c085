"""The queries of a poll: which models have work, and how much. What they find of the scans is recorded.

Invariant: a worker never gets a model for signals that its retry store or its low-water mark leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from signalbus_core.lowlevel import (
    Choice,
    Measurement,
    SignalSpec,
    Work,
    find_work,
    find_work_and_measure,
    measure,
)

from ...telemetry.states import BACKLOG_COUNTED_TO
from ...worker.low_water import Scan
from ...worker.model_state import ModelState
from ...worker.retry_store import RetryStores
from ..joint_query import JointQuery, is_statement_timeout
from ..pauses import PausedModels
from .starts import ScanStarts

#: The name of a model, and its measurement.
Measured = tuple[str, Measurement]


class ModelQueries:
    """Queries several models of a database by one statement.

    :param states: the models by name.
    :param measure_from: the key from which on each model's signals are counted.
    :param has_parked_table: whether the database has the table ``signalbus_parked``.
    """

    def __init__(
        self,
        states: Mapping[str, ModelState],
        retry_stores: RetryStores,
        paused: PausedModels,
        scan_starts: ScanStarts,
        joint_query: JointQuery,
        measure_from: Callable[[Sequence[SignalSpec]], dict[str, int | None]],
        has_parked_table: Callable[[], bool],
    ) -> None:
        self._states = states
        self._retry_stores = retry_stores
        self._paused = paused
        self._scan_starts = scan_starts
        self._joint_query = joint_query
        self._measure_from = measure_from
        self._has_parked_table = has_parked_table
        #: Models whose poll timed out. A worker has a longer time limit, and finds a key at which the poll can begin.
        self.too_slow: list[str] = []

    def find(self, connection: Connection, specs: Sequence[SignalSpec]) -> list[Work]:
        """Which of the models have signals to send."""
        scans = self._scan_starts.begin(specs)
        with self._scans(scans):
            work = find_work(connection, specs, self._choices(scans), has_paused_table=self._paused.has_table)
        self._scan_starts.ended(scans, work)
        self._joint_query.scanned(scans)
        return work

    @contextmanager
    def _scans(self, scans: Mapping[str, Scan]) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if is_statement_timeout(error) and self._scan_starts.failed(scans):
                self.too_slow += scans
            raise

    def measure(self, connection: Connection, specs: Sequence[SignalSpec]) -> list[Measured]:
        """Backlog and lag of the models."""
        has_table = self._has_parked_table()
        starts = self._measure_from(specs)
        measurements = measure(connection, specs, BACKLOG_COUNTED_TO, has_parked_table=has_table, starts=starts)
        return [(spec.name, measurement) for spec, measurement in zip(specs, measurements, strict=True)]

    def find_and_measure(self, connection: Connection, specs: Sequence[SignalSpec]) -> list[tuple[Work, Measurement]]:
        """Both by one statement."""
        scans = self._scan_starts.begin(specs)
        with self._scans(scans):
            both = find_work_and_measure(
                connection,
                specs,
                self._choices(scans),
                BACKLOG_COUNTED_TO,
                has_parked_table=self._has_parked_table(),
                has_paused_table=self._paused.has_table,
                starts=self._measure_from(specs),
            )
        self._scan_starts.ended(scans, [work for work, _ in both])
        self._joint_query.scanned(scans)
        return both

    def _choices(self, scans: Mapping[str, Scan]) -> dict[str, Choice]:
        return {name: replace(self._choice(name), start=scan.start) for name, scan in scans.items()}

    def _choice(self, name: str) -> Choice:
        return self._retry_stores[name].choice(self._states[name].avoided())
