"""A pooler between the relay and the database, found by what connections do: it does not say that it is there.

https://www.pgbouncer.org/features.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from sqlalchemy import text
from sqlalchemy.engine import Engine

from .connect import CONNECT_WITHIN_SECONDS
from .finding import Finding, found

#: A pooler gives a client the same server connection by chance, and by habit when it is idle.
ROUNDS = 5


def check_pooler(engine: Engine, subject: str) -> Iterator[Finding]:
    """Two open connections have a server process each; behind a pooler in transaction mode they share some."""
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
    """Whether these are the processes of connections that do not have one each, for themselves."""
    return len(first) != 1 or len(second) != 1 or first == second


def takes_no_transactions(engine: Engine) -> bool:
    """Whether single statements are answered and a transaction is not, as by a pooler in statement mode.

    The pooler closes the connection, and what it says may be lost: only trying tells it from a database that is away.
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
        # An application may connect in ways of its own, which the URL does not tell.
        return False
    return False


def statement_mode(subject: str) -> Finding:
    problem = "it is behind a pooler in statement mode, which allows no transactions"
    remedy = "Set pool_mode = transaction (or session) in the pooler."
    return found("pooler-statement-mode", subject, problem, remedy)
