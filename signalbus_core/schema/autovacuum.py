"""Autovacuum settings for signal tables: the recommended ones, and a check of the present ones.

An outbox is small and changes all the time. PostgreSQL's defaults wait until a fifth of the rows are dead: a table that
once held a million signals waits for 200,000 dead rows, which every burst must skip. A fixed threshold avoids that.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.engine import Connection

from ..model.contract import SignalSpec
from .quoting import quoted, table_of

#: A table with so many dead rows is vacuumed by the next run of autovacuum, once a minute by default. More: more dead
#: rows to skip; less: tables are vacuumed too often.
VACUUM_AT_DEAD_ROWS = 1000

#: The storage parameters. The threshold does not depend on the size of the table. Vacuum runs without cost delay: it
#: has few pages to clean, and they are in memory. TOAST tables use the settings of their table.
#: https://www.postgresql.org/docs/current/sql-createtable.html#SQL-CREATETABLE-STORAGE-PARAMETERS
SETTINGS = {
    "autovacuum_enabled": "true",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": str(VACUUM_AT_DEAD_ROWS),
    "autovacuum_vacuum_cost_delay": "0",
}


def autovacuum_sql(*targets: type[Any] | Table | str) -> list[str]:
    """The statements that set autovacuum for signal tables, for migrations. They can be run again.

    They do not wait for readers or writers of the table.

    :param targets: signal models, tables, or names of tables (``"orders"``, ``"sales.orders"``).
    """
    settings = ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
    return [f"ALTER TABLE {quoted(table_of(target))} SET ({settings})" for target in targets]


def autovacuum_problem(connection: Connection, spec: SignalSpec) -> str | None:
    """Why dead rows of a model's table are removed late or never, and what to do; None when there is no problem.

    Other values than those of :func:`autovacuum_sql` are taken as intended. None as well when the table is missing.
    """
    if connection.dialect.name != "postgresql":
        return None
    row = connection.execute(_FACTS, {"name": quoted(spec.table)}).one()
    table = spec.table.fullname
    if not row.is_on:
        return (
            "Autovacuum is off for the whole server, so dead rows are never removed. "
            "Set autovacuum and track_counts to on."
        )
    remedy = f"`signalbus-relay ddl autovacuum {table}` prints what sets it."
    if row.switched_off:
        return f"Autovacuum is off for the table {row.switched_off}, so its dead rows are never removed. {remedy}"
    if row.by_default:
        return f"The table {row.by_default} has no autovacuum settings of its own: dead rows are removed late. {remedy}"
    return None


# A partitioned table has no rows and accepts no settings; its partitions do.
_FACTS = text(
    """
    SELECT current_setting('autovacuum')::bool AND current_setting('track_counts')::bool AS is_on,
           min(found.name) FILTER (WHERE 'off' = found.enabled) AS switched_off,
           min(found.name) FILTER (WHERE found.scale_factor IS NULL) AS by_default
    FROM (
        SELECT CAST(c.oid::regclass AS text) AS name,
               (SELECT CASE WHEN CAST(option_value AS bool) THEN 'on' ELSE 'off' END
                FROM pg_options_to_table(c.reloptions) WHERE option_name = 'autovacuum_enabled') AS enabled,
               (SELECT option_value FROM pg_options_to_table(c.reloptions)
                WHERE option_name = 'autovacuum_vacuum_scale_factor') AS scale_factor
        FROM pg_class c
        WHERE c.relkind = 'r' AND (
            c.oid = to_regclass(:name)
            OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(:name)) WHERE isleaf)
        )
    ) AS found
    """
)
