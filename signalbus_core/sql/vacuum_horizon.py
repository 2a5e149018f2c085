"""What keeps dead rows alive: whoever may still look at them, as the database has it. Reads, and changes nothing.

PostgreSQL removes a dead row when nobody can see it any more. A transaction that has begun before, in whatever table it
reads, holds this horizon back; so does one that is prepared and forgotten, and a standby that tells of its own readers.
https://www.postgresql.org/docs/current/routine-vacuuming.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import ARRAY, Text, bindparam, text
from sqlalchemy.engine import Connection

from ..model.contract import SignalSpec
from ..schema.quoting import quoted


class HolderKind(Enum):
    """What holds the horizon back."""

    SESSION = "session"
    PREPARED = "prepared transaction"
    SLOT = "replication slot"
    STANDBY = "standby"


@dataclass(frozen=True)
class HorizonHolder:
    """Something that keeps dead rows alive. As text, it is named for people; queries are never shown.

    :param pid: of its server process; of a slot, the process that uses it.
    :param name: of a session or a standby its ``application_name``, else the name of the slot or of the transaction.
    :param state: of a session, such as ``idle in transaction``; None when it is not known.
    :param age_seconds: since its transaction began; None when that is not known, as for slots and standbys.
    :param transactions: how many transactions have begun since: the higher, the further it holds back.
    :param horizon: the oldest transaction whose end it may not have seen. While it stays the same, nothing moves.
    :param is_visible: False for a session of another login, of which only this much is shown without
      ``pg_read_all_stats``.
    :param still_seconds: of a session, since its statement began, or since it does nothing; the view of the database
      that it had then, it has now.
    """

    kind: HolderKind
    pid: int | None
    name: str
    state: str | None
    age_seconds: float | None
    transactions: int
    horizon: str
    is_visible: bool = True
    still_seconds: float | None = None

    def __str__(self) -> str:
        if self.kind is HolderKind.PREPARED:
            return f"prepared transaction {self.name!r}{self._details()}"
        if self.kind is HolderKind.SLOT:
            user = f"used by pid {self.pid}" if self.pid else "used by nobody"
            return f"replication slot {self.name!r} ({user})"
        if self.kind is HolderKind.STANDBY:
            return f"standby {self.name!r} by hot_standby_feedback (pid {self.pid})"
        whose = "" if self.is_visible else "another login's "
        return f"{whose}session with pid {self.pid}{self._details(f'application {self.name!r}' if self.name else '')}"

    def _details(self, *first: str) -> str:
        age = None if self.age_seconds is None else f"for {self.age_seconds:.0f} s"
        details = ", ".join(filter(None, (*first, self.state, age)))
        return f" ({details})" if details else ""

    @property
    def remedy(self) -> str:
        """What ends it, in one sentence."""
        if self.kind is HolderKind.PREPARED:
            return "End it with COMMIT PREPARED or ROLLBACK PREPARED, in the database where it was prepared."
        if self.kind is HolderKind.SLOT:
            return "Have its standby catch up, or drop it with pg_drop_replication_slot() when nobody needs it."
        if self.kind is HolderKind.STANDBY:
            return "End the long query on the standby."
        return f"Have its application end the transaction; SELECT pg_terminate_backend({self.pid}) ends the session."


def horizon_holders(connection: Connection) -> list[HorizonHolder]:
    """What keeps dead rows of this database alive, oldest first. Any transaction does, mostly for a moment.

    Left out are the session that asks, and vacuums, which wait for nobody.

    - Of sessions of other logins it is told that they are there; for more, this login needs ``pg_read_all_stats``.
    """
    if connection.dialect.name != "postgresql":
        return []
    return [
        HorizonHolder(
            HolderKind(row.kind),
            row.pid,
            row.name or "",
            row.state,
            None if row.age_seconds is None else max(0.0, row.age_seconds),
            row.transactions,
            row.horizon,
            row.is_visible,
            row.still_seconds,
        )
        for row in connection.execute(_HOLDERS)
    ]


def count_dead_rows(connection: Connection, specs: Sequence[SignalSpec]) -> list[int]:
    """How many dead rows the tables of the models have, as PostgreSQL's statistics know it; 0 for a missing table.

    :param specs: models of one database.
    """
    if connection.dialect.name != "postgresql":
        return [0] * len(specs)
    names = [quoted(spec.table) for spec in specs]
    return list(connection.scalars(_DEAD_ROWS, {"names": names}))


# The rows of a partitioned table are those of its partitions.
_DEAD_ROWS = text(
    """
    SELECT CAST(coalesce(sum(pg_stat_get_dead_tuples(found.oid)), 0) AS bigint)
    FROM unnest(:names) WITH ORDINALITY AS n(name, position)
    LEFT JOIN LATERAL (
        SELECT to_regclass(n.name) AS oid UNION SELECT relid FROM pg_partition_tree(to_regclass(n.name))
    ) AS found ON true
    GROUP BY n.position ORDER BY n.position
    """
).bindparams(bindparam("names", type_=ARRAY(Text)))

# A logical slot holds back catalogs only, by its catalog_xmin. The walsender of a standby with a slot leaves its
# horizon to the slot. Workers of a parallel query have the horizon of their leader.
_HOLDERS = text(
    """
    SELECT 'session' AS kind, a.pid, CAST(a.application_name AS text) AS name, a.state,
           CAST(extract(epoch FROM clock_timestamp() - a.xact_start) AS float8) AS age_seconds,
           greatest(age(a.backend_xmin), age(a.backend_xid)) AS transactions,
           CAST(CASE WHEN age(a.backend_xid) > age(a.backend_xmin) OR a.backend_xmin IS NULL
                     THEN a.backend_xid ELSE a.backend_xmin END AS text) AS horizon,
           a.backend_type IS NOT NULL AS is_visible,
           CAST(extract(epoch FROM clock_timestamp() - a.state_change) AS float8) AS still_seconds
    FROM pg_catalog.pg_stat_activity a
    WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.leader_pid IS NULL
      AND a.datname = current_database() AND a.pid <> pg_backend_pid()
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_replication r WHERE r.pid = a.pid)
    UNION ALL
    SELECT 'standby', r.pid, CAST(r.application_name AS text), NULL, NULL, age(r.backend_xmin),
           CAST(r.backend_xmin AS text), true, NULL
    FROM pg_catalog.pg_stat_replication r WHERE r.backend_xmin IS NOT NULL
    UNION ALL
    SELECT 'replication slot', s.active_pid, CAST(s.slot_name AS text), NULL, NULL, age(s.xmin),
           CAST(s.xmin AS text), true, NULL
    FROM pg_catalog.pg_replication_slots s WHERE s.xmin IS NOT NULL
    UNION ALL
    SELECT 'prepared transaction', NULL, CAST(p.gid AS text), NULL,
           CAST(extract(epoch FROM clock_timestamp() - p.prepared) AS float8), age(p.transaction),
           CAST(p.transaction AS text), true, NULL
    FROM pg_catalog.pg_prepared_xacts p WHERE p.database = current_database()
    ORDER BY transactions DESC, age_seconds DESC NULLS LAST
    """
)
