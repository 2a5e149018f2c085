"""Detects a pooler between the relay and the database by the behaviour of connections; it does not announce itself.

https://www.pgbouncer.org/features.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from sqlalchemy import text
from sqlalchemy.engine import Engine

from .connect import CONNECT_WITHIN_SECONDS
from .finding import Finding, found

#: The number of attempts. An idle pooler may give a client the same server connection several times.
ROUNDS = 5


def check_pooler(engine: Engine, subject: str) -> Iterator[Finding]:
    """Two open connections have one server process each; behind a pooler in transaction mode they share some."""
    served: tuple[set[int | None], set[int | None]] = set(), set()
    with engine.connect() as first, engine.connect() as second:
        for _ in range(ROUNDS):
            for connection, pids in zip((first, second), served, strict=True):
                pids.add(connection.scalar(text("SELECT pg_backend_pid()")))
                connection.commit()
    if are_shared(*served):
        problem = "it is behind a pooler in transaction mode, so no doorbell can wake a relay, which polls"
        remedy = "Give the relay a URL that passes by the pooler, unless --poll-interval is quick enough."
        yield found("pooler-transaction-mode", subject, problem, remedy)


def are_shared(first: set[int | None], second: set[int | None]) -> bool:
    """Whether connections with these server processes do not have one process each."""
    return len(first) != 1 or len(second) != 1 or first == second


def takes_no_transactions(engine: Engine) -> bool:
    """Whether single statements work and a transaction does not, as behind a pooler in statement mode.

    The pooler closes the connection, and its error may be lost: only a trial distinguishes it from an outage.
    """
    dialect = engine.dialect
    positional, named = dialect.create_connect_args(engine.url)
    try:
        with closing(dialect.connect(*positional, **named, connect_timeout=CONNECT_WITHIN_SECONDS)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            try:
                cursor.execute("BEGIN")
            except dialect.loaded_dbapi.Error:
                return True
    except (dialect.loaded_dbapi.Error, TypeError):
        # An application may connect in its own way, which the URL does not show.
        return False
    return False


def statement_mode(subject: str) -> Finding:
    problem = "it is behind a pooler in statement mode, which allows no transactions"
    remedy = "Set pool_mode = transaction (or session) in the pooler."
    return found("pooler-statement-mode", subject, problem, remedy)
