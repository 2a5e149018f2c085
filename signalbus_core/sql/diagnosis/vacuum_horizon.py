"""The vacuum horizon, and the transactions, slots and standbys that hold it back. The queries change nothing.

VACUUM removes a dead row only when no snapshot can see it. An older transaction, whichever tables it reads, holds this
horizon back; so do prepared transactions, replication slots, and standbys with ``hot_standby_feedback``.
https://www.postgresql.org/docs/current/routine-vacuuming.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import ARRAY, Text, bindparam, text
from sqlalchemy.engine import Connection

from ...model.contract import SignalSpec
from ...schema.quoting import quoted


class HolderKind(Enum):
    """What kind of thing holds the vacuum horizon back."""

    SESSION = "session"
    PREPARED = "prepared transaction"
    SLOT = "replication slot"
    STANDBY = "standby"


@dataclass(frozen=True)
class HorizonHolder:
    """Something that holds the vacuum horizon back. ``str()`` names it for people; queries are never shown.

    :param pid: of its server process; of a slot, the process that uses it.
    :param name: of a session or a standby its ``application_name``, else the name of the slot or of the transaction.
    :param state: of a session, such as ``idle in transaction``; None when it is not known.
    :param age_seconds: since its transaction began; None when that is not known, as for slots and standbys.
    :param transactions: how many transactions have begun since: the higher, the further it holds the horizon back.
    :param horizon: the oldest transaction that it still needs (``xmin``). While it stays, the horizon does not advance.
    :param is_visible: False for a session of another login, whose details need ``pg_read_all_stats``.
    :param still_seconds: of a session, since its statement began, or since it is idle; its snapshot has not changed
      since then.
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
    """What holds the vacuum horizon of this database back, oldest first. Every transaction does, mostly for a moment.

    The querying session and vacuums, which do not hold it back, are left out.

    - Sessions of other logins are listed without details, unless this login has ``pg_read_all_stats``.
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
    """How many dead rows the tables of the models have, by PostgreSQL's statistics; 0 for a missing table.

    :param specs: models of one database.
    """
    if connection.dialect.name != "postgresql":
        return [0] * len(specs)
    return _sum_of(connection, specs, "pg_stat_get_dead_tuples")


def count_inserted_rows(connection: Connection, specs: Sequence[SignalSpec]) -> list[int]:
    """How many rows were ever inserted into the tables of the models, by statistics that may be 10 s old.

    It reads no row, dead or not.
    """
    return _sum_of(connection, specs, "pg_stat_get_tuples_inserted")


def _sum_of(connection: Connection, specs: Sequence[SignalSpec], function: str) -> list[int]:
    names = bindparam("names", [quoted(spec.table) for spec in specs], type_=ARRAY(Text))
    return list(connection.scalars(text(_SUM.format(function=function)).bindparams(names)))


# A partitioned table keeps its rows in its partitions.
_SUM = """
    SELECT CAST(coalesce(sum({function}(found.oid)), 0) AS bigint)
    FROM unnest(:names) WITH ORDINALITY AS n(name, position)
    LEFT JOIN LATERAL (
        SELECT to_regclass(n.name) AS oid UNION SELECT relid FROM pg_partition_tree(to_regclass(n.name))
    ) AS found ON true
    GROUP BY n.position ORDER BY n.position
"""

# A logical slot holds back catalogs only, by its catalog_xmin. For a standby with a slot, the slot holds the horizon,
# not the walsender. Workers of a parallel query have the horizon of their leader.
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
