"""A thread that writes signals as an application would, straight into the database.

Each transaction inserts a row into ``business`` for every signal, so that the database itself tells afterwards what was
committed, also where the answer to a commit was lost.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg2

#: The pause between two transactions. Shorter: more signals in each fault.
PACE_SECONDS = 0.04

#: So many signals are written at full width; then single ones, so that the flow goes on for as long as it takes.
FULL_WIDTH_SIGNALS = 250

#: A part of the transactions is rolled back on purpose.
ROLLED_BACK_PART = 0.2

KEYS = ("classic", "quorum")


def insert_signals(
    cursor: Any, numbers: Sequence[int], keys: Sequence[str] = KEYS, kind: str = "good", table: str = "signal"
) -> None:
    """Insert signals with their business rows; the keys take turns."""
    cursor.execute("INSERT INTO business SELECT unnest(%s::bigint[])", (list(numbers),))
    cursor.execute(
        f"INSERT INTO {table} (number, routing_key, kind) "
        "SELECT n, (%s::text[])[1 + n %% %s], %s FROM unnest(%s::bigint[]) n",
        (list(keys), len(keys), kind, list(numbers)),
    )


class Writer:
    """Writes from :meth:`start` to :meth:`stop`, at a steady pace.

    :param dsn: of the database, asked for each connection.
    :param numbers: gives the signals' numbers.
    """

    def __init__(
        self, dsn: Callable[[], str], numbers: Iterator[int], chance: random.Random, keys: Sequence[str] = KEYS
    ) -> None:
        self._dsn = dsn
        self._keys = keys
        self._numbers = numbers
        self._chance = chance
        self._stop = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._resting = threading.Event()
        self._connection: Any = None
        self.written = 0
        self.rolled_back = 0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._go.set()
        self._thread.join(30)
        if self._thread.is_alive():
            raise TimeoutError("the writer does not end")

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Nothing is written meanwhile."""
        self._resting.clear()
        self._go.clear()
        self._resting.wait(10)
        try:
            yield
        finally:
            self._go.set()

    def _run(self) -> None:
        while not self._stop.wait(PACE_SECONDS):
            if not self._go.is_set():
                self._resting.set()
                self._go.wait()
            try:
                self._write()
            except psycopg2.Error:
                # The database was taken away, or the table. Whether it was committed is asked later.
                self._drop()
        self._drop()

    def _write(self) -> None:
        if self._connection is None:
            self._connection = psycopg2.connect(self._dsn(), connect_timeout=2)
        width = self._chance.randint(1, 30) if self.written < FULL_WIDTH_SIGNALS else 1
        numbers = list(itertools.islice(self._numbers, width))
        with self._connection.cursor() as cursor:
            insert_signals(cursor, numbers, self._keys)
        if self._chance.random() < ROLLED_BACK_PART:
            self._connection.rollback()
            self.rolled_back += width
        else:
            self._connection.commit()
            self.written += width

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()
