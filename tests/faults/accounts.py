"""Whether the sum holds at every moment: what was written is in the outbox, in the history, or was withdrawn.

A thread asks the database again and again, each time in one snapshot. A number that is missing, or there twice, at any
moment is a problem, also when all is well at the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import psycopg2

#: The pause between two looks. Shorter: more moments are seen, and the database is busier.
PACE_SECONDS = 0.1

#: Tables are locked now and then; the next look comes soon.
SETTINGS = "SET lock_timeout = '1s'; SET statement_timeout = '5s'; SET default_transaction_read_only = on"


class Accounts:
    """Looks from its creation to :meth:`stop`.

    :param dsn: of the database, asked for each connection.
    :param first: the first number of this fault.
    :param tables: the outboxes.
    """

    def __init__(self, dsn: Callable[[], str], first: int, tables: Sequence[str]) -> None:
        self._dsn = dsn
        self._first = first
        self._statement = _sum(tables)
        self._since: Any = None
        self.looks = 0
        self.missing: set[int] = set()
        self.twice: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="accounts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def problems(self, withdrawn: set[int]) -> list[str]:
        """What was wrong at some moment.

        :param withdrawn: signals that the application has deleted itself.
        """
        found = []
        if not self.looks:
            found.append("whether the sum holds was never seen")
        if missing := self.missing - withdrawn:
            found.append(f"{len(missing)} signals were in neither outbox nor history for a moment: {_some(missing)}")
        if self.twice:
            found.append(f"{len(self.twice)} signals were there twice for a moment: {_some(self.twice)}")
        return found

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection = psycopg2.connect(self._dsn(), connect_timeout=5)
            except psycopg2.Error:
                self._stop.wait(PACE_SECONDS)
                continue
            try:
                self._look_on(connection)
            except psycopg2.Error:
                # The fault, or a lock.
                self._stop.wait(PACE_SECONDS)
            finally:
                connection.close()

    def _look_on(self, connection: Any) -> None:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(SETTINGS)
            if self._since is None:
                cursor.execute("SELECT now() - interval '1 minute'")
                [self._since] = cursor.fetchone()
            while not self._stop.is_set():
                cursor.execute(self._statement, (self._since, self._first))
                for number, count in cursor.fetchall():
                    (self.twice if count else self.missing).add(number)
                self.looks += 1
                self._stop.wait(PACE_SECONDS)


def _sum(tables: Sequence[str]) -> str:
    """The signals of this fault that are not once in outbox or history, each with how often it is."""
    return f"""
        WITH places AS (
            {" UNION ALL ".join(f"SELECT number FROM {table}" for table in tables)}
            UNION ALL
            SELECT CAST(row ->> 'number' AS bigint) FROM signalbus_sent
            WHERE table_name IN ({", ".join(f"'{table}'" for table in tables)}) AND sent_at >= %s
        )
        SELECT b.number, count(p.number) FROM business b LEFT JOIN places p ON p.number = b.number
        WHERE b.number >= %s GROUP BY b.number HAVING count(p.number) <> 1
    """


def _some(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)[:10]))
