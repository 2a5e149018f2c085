"""Threads that write signals as an application would, straight into the database.

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

#: The most signals of a transaction, of plain ones, and of each of the other writers.
MOST_WIDE = (30, 8)

#: A part of the transactions is rolled back on purpose.
ROLLED_BACK_PART = 0.2

KEYS = ("classic", "quorum")

#: The accounts of keyed signals. Those of one go to one queue.
ACCOUNTS = 6

#: A scheduled signal is due at most so many seconds after it was written.
LONGEST_DELAY_SECONDS = 0.4

#: Inserts signals with these numbers, and their business rows.
Insert = Callable[[Any, Sequence[int], random.Random], None]


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


def insert_in_order(cursor: Any, numbers: Sequence[int], chance: random.Random, keys: Sequence[str] = KEYS) -> None:
    """Insert keyed signals, and then their business rows: their places are drawn while the keys are locked."""
    # In the order of the accounts, so that two writers hardly ever deadlock.
    accounts = sorted(chance.choices(range(ACCOUNTS), k=len(numbers)))
    cursor.execute(
        "INSERT INTO keyed (number, account, routing_key) SELECT n, a, (%s::text[])[1 + a %% %s]"
        " FROM unnest(%s::bigint[], %s::int[]) AS written (n, a)",
        (list(keys), len(keys), list(numbers), accounts),
    )
    cursor.execute(
        "INSERT INTO business (number, account) SELECT * FROM unnest(%s::bigint[], %s::int[])",
        (list(numbers), accounts),
    )


def insert_scheduled(cursor: Any, numbers: Sequence[int], chance: random.Random, keys: Sequence[str] = KEYS) -> None:
    """Insert signals that are due soon, with their business rows."""
    delays = [chance.uniform(0, LONGEST_DELAY_SECONDS) for _ in numbers]
    cursor.execute(
        "WITH written AS (INSERT INTO business (number, due) SELECT n, clock_timestamp() + d * interval '1 s'"
        " FROM unnest(%s::bigint[], %s::float8[]) AS written (n, d) RETURNING number, due)"
        " INSERT INTO scheduled (number, routing_key, signalbus_send_after)"
        " SELECT number, (%s::text[])[1 + number %% %s], due FROM written",
        (list(numbers), delays, list(keys), len(keys)),
    )


class Writer:
    """Writes from :meth:`start` to :meth:`stop`, at a steady pace.

    :param dsn: of the database, asked for each connection.
    :param numbers: gives the signals' numbers.
    :param insert: inserts some.
    :param most_wide: the most signals of a transaction.
    """

    def __init__(
        self, dsn: Callable[[], str], numbers: Iterator[int], chance: random.Random, insert: Insert, most_wide: int
    ) -> None:
        self._dsn = dsn
        self._insert = insert
        self._most_wide = most_wide
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
        width = self._chance.randint(1, self._most_wide) if self.written < FULL_WIDTH_SIGNALS else 1
        numbers = list(itertools.islice(self._numbers, width))
        with self._connection.cursor() as cursor:
            self._insert(cursor, numbers, self._chance)
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


class Writers:
    """A writer of plain signals; beside it two of keyed signals, which want the same keys, and one of scheduled ones.

    :param dsn: of the database, asked for each connection.
    :param numbers: gives the signals' numbers.
    :param keys: the routing keys.
    """

    def __init__(
        self, dsn: Callable[[], str], numbers: Iterator[int], chance: random.Random, keys: Sequence[str] = KEYS
    ) -> None:
        inserts: list[Insert] = [
            lambda cursor, some, _chance: insert_signals(cursor, some, keys),
            *[lambda cursor, some, chance: insert_in_order(cursor, some, chance, keys)] * 2,
            lambda cursor, some, chance: insert_scheduled(cursor, some, chance, keys),
        ]
        self._writers = [
            Writer(dsn, numbers, random.Random(chance.random()), insert, MOST_WIDE[number > 0])
            for number, insert in enumerate(inserts)
        ]

    @property
    def written(self) -> int:
        """How many plain signals are committed, once there are some of each writer."""
        return self._writers[0].written if all(writer.written for writer in self._writers) else 0

    @property
    def rolled_back(self) -> int:
        return sum(writer.rolled_back for writer in self._writers)

    def start(self) -> None:
        for writer in self._writers:
            writer.start()

    def stop(self) -> None:
        for writer in self._writers:
            writer.stop()

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Nothing is written meanwhile."""
        with contextlib.ExitStack() as stack:
            for writer in self._writers:
                stack.enter_context(writer.resting())
            yield
