"""The bell of sent signals: a burst sends NOTIFY when it deletes signals, but only while somebody waits for one.

Who waits holds :data:`WAITING_LOCK` of the table, shared. A burst sees that when it tries to take the lock, and gives
it back at once. It then holds :data:`FENCE_LOCK`, shared, until it has committed: who begins to wait waits for the end
of such bursts, and looks at its signal once more. So no commit is missed: either the burst sees the waiting lock, or
its delete is seen. While nobody waits, a burst sends nothing, and it never waits for a lock itself.
"""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import Table

from ..schema.quoting import quoted

#: First key of an advisory lock; the second is the table's OID.
WAITING_LOCK = 1396853561
FENCE_LOCK = 1396853562

#: The channel of a table is named so, followed by its OID.
CHANNEL_PREFIX = "signalbus_sent_"


@lru_cache(maxsize=1024)
def ring_if_awaited(table: Table) -> str:
    """The statement with which a burst notifies those who wait for signals of a table. It has no percent sign."""
    return (
        f"SELECT pg_catalog.pg_notify(pg_catalog.concat('{CHANNEL_PREFIX}', CAST(t.id AS pg_catalog.oid)), '') "
        f"FROM (SELECT CAST(pg_catalog.to_regclass({_literal(quoted(table))}) AS pg_catalog.int4) AS id) t "
        f"WHERE CASE WHEN NOT pg_catalog.pg_try_advisory_xact_lock_shared({FENCE_LOCK}, t.id) THEN true "
        f"WHEN pg_catalog.pg_try_advisory_lock({WAITING_LOCK}, t.id) "
        f"THEN NOT pg_catalog.pg_advisory_unlock({WAITING_LOCK}, t.id) ELSE t.id IS NOT NULL END"
    )


def begin_waiting(table_oid: int) -> str:
    """The statements after which bursts notify this session, but for those in flight."""
    return f"LISTEN {CHANNEL_PREFIX}{table_oid}; SELECT pg_advisory_lock_shared({WAITING_LOCK}, {_key(table_oid)})"


def await_bursts(table_oid: int, timeout_milliseconds: int) -> str:
    """The statements that wait for the bursts in flight. If these take longer than the timeout, the second fails."""
    key = _key(table_oid)
    return (
        f"SET LOCAL lock_timeout = {timeout_milliseconds}; SELECT pg_advisory_lock({FENCE_LOCK}, {key}); "
        f"SELECT pg_advisory_unlock({FENCE_LOCK}, {key})"
    )


def end_waiting(table_oid: int) -> str:
    """The statements that take back :func:`begin_waiting`."""
    return f"UNLISTEN {CHANNEL_PREFIX}{table_oid}; SELECT pg_advisory_unlock_shared({WAITING_LOCK}, {_key(table_oid)})"


def _key(table_oid: int) -> str:
    # An OID has no sign, and the key of an advisory lock has one.
    return f"CAST(CAST({table_oid} AS oid) AS int4)"


def _literal(text: str) -> str:
    """A text as SQL, without percent signs, which drivers read as placeholders."""
    return "'" + text.replace("'", "''").replace("%", "' || pg_catalog.chr(37) || '") + "'"
