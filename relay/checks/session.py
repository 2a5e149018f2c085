"""The settings of the relay's database sessions: isolation, time limits, durability, clocks.

The first half judges facts and is pure; the second half queries them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from signalbus_core.lowlevel import BurstLimits

from .finding import Finding, found

#: The clocks may differ by so much. Larger: a next try may come later than shown.
MOST_SKEW_SECONDS = 5.0

_FACTS = text(
    """
    SELECT pg_is_in_recovery() AS standby,
           current_setting('default_transaction_read_only') AS read_only,
           current_setting('default_transaction_isolation') AS isolation,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('fsync') AS fsync,
           current_setting('server_version_num')::int AS version,
           least(nullif((SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), -1),
                 nullif((SELECT datconnlimit FROM pg_database WHERE datname = current_database()), -1),
                 current_setting('max_connections')::int) AS connections
    """
)
_TIMEOUTS = text(
    """
    SELECT name, setting::float / 1000 AS seconds FROM pg_settings
    WHERE setting <> '0' AND name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
                                      'transaction_timeout', 'idle_session_timeout')
    """
)


def server_findings(facts: Mapping[str, Any], subject: str, connections: int) -> Iterator[Finding]:
    """:param connections: how many a relay opens."""
    if facts["standby"]:
        remedy = "Point the relay at the primary, for example with target_session_attrs=read-write."
        yield found("database-standby", subject, "it is a standby", remedy)
    elif facts["read_only"] == "on":
        remedy = "ALTER ROLE the relay's login RESET default_transaction_read_only (or the database)."
        yield found("database-read-only", subject, "default_transaction_read_only is on", remedy)
    if facts["fsync"] == "off":
        yield found("fsync-off", subject, "fsync is off: a power failure can destroy it", "Set fsync = on.")
    if facts["synchronous_commit"] == "off":
        problem = "synchronous_commit is off: a crash loses commits that were already reported"
        yield found("synchronous-commit-off", subject, problem, "Set synchronous_commit = on for the application.")
    if facts["connections"] < connections:
        problem = f"the login may open {facts['connections']} connections, and a relay needs {connections}"
        yield found("connections-too-few", subject, problem, "Raise the connection limit, or run fewer workers.")


def host_findings(connection: Connection, subject: str) -> Iterator[Finding]:
    """Which of several hosts has answered."""
    driver: Any = connection.connection.driver_connection
    info: Any = driver.info
    known: Mapping[str, str] = info.dsn_parameters if hasattr(info, "dsn_parameters") else info.get_parameters()
    if "," in known.get("host", ""):
        yield found("database-host", subject, f"{info.host}:{info.port} has answered, of {known['host']}")


def isolation_findings(default: str, is_autocommit: bool, subject: str) -> Iterator[Finding]:
    """:param default: of the role and the database, as PostgreSQL names it."""
    if is_autocommit:
        problem = "its engine is in AUTOCOMMIT: signals and business data are not committed together"
        yield found("isolation-autocommit", subject, problem, "Remove isolation_level from SQLALCHEMY_ENGINE_OPTIONS.")
    if default != "read committed":
        problem = f"default_transaction_isolation is {default}; bursts are at read committed all the same"
        yield found("isolation-overridden", subject, problem)


def timeout_findings(timeouts: Mapping[str, float], limits: BurstLimits, subject: str) -> Iterator[Finding]:
    """:param timeouts: in seconds, by the name of the setting; those that are off left out."""
    set_by_bursts = {
        "statement_timeout": limits.statement_timeout_seconds,
        "lock_timeout": limits.lock_timeout_seconds,
        "idle_in_transaction_session_timeout": limits.idle_timeout_seconds,
    }
    longest = limits.statement_timeout_seconds + limits.idle_timeout_seconds
    for name, seconds in timeouts.items():
        if name in set_by_bursts and seconds < set_by_bursts[name]:
            problem = f"{name} is {seconds:g} s; bursts set {set_by_bursts[name]:g} s themselves"
            yield found("timeout-overridden", subject, problem)
        elif name not in set_by_bursts and seconds < longest:
            problem = f"{name} is {seconds:g} s: it ends bursts or idle connections, which may take {longest:g} s"
            yield found("timeout-too-short", subject, problem, f"ALTER ROLE the relay's login SET {name} = 0.")


def clock_findings(skew_seconds: float, subject: str) -> Iterator[Finding]:
    if abs(skew_seconds) > MOST_SKEW_SECONDS:
        problem = f"its clock differs from this machine's by {abs(skew_seconds):.0f} s"
        yield found("clock-skew", subject, problem, "Have both machines synchronise their clocks by NTP.")


def check_session(
    engine: Engine, connection: Connection, subject: str, limits: BurstLimits, connections: int
) -> Iterator[Finding]:
    before = time.time()
    database_time = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
    yield from clock_findings(database_time - (before + time.time()) / 2, subject)
    facts = connection.execute(_FACTS).one()._asdict()
    yield from server_findings(facts, subject, connections)
    yield from host_findings(connection, subject)
    connection.commit()
    with engine.connect() as plain:
        # Outside the relay's transaction, so these are the limits of the role and the database.
        timeouts: dict[str, float] = {row.name: row.seconds for row in plain.execute(_TIMEOUTS)}
        raw: Any = plain.connection.dbapi_connection
        is_autocommit = raw.autocommit is True
    yield from timeout_findings(timeouts, limits, subject)
    yield from isolation_findings(facts["isolation"], is_autocommit, subject)
