"""Dead rows: whether they are removed from the tables, and what keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import text
from sqlalchemy.engine import Connection

from signalbus_core import SignalSpec

from .finding import Finding, found

#: Something that holds the horizon for so long is told of. Less: every report and dump is.
HELD_SECONDS = 300.0

_AUTOVACUUM = text(
    "SELECT current_setting('autovacuum') = 'on', coalesce(reloptions, '{}')::text[] FROM pg_class"
    " WHERE oid = to_regclass(:name)"
)
#: Never the text of a query: it may hold data. What the login may not see of other logins is NULL.
_HOLDERS = text(
    """
    SELECT 'session ' || pid || coalesce(' of ' || nullif(application_name, ''), ''),
           extract(epoch FROM clock_timestamp() - xact_start)::float
    FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    UNION ALL
    SELECT 'prepared transaction ' || gid, extract(epoch FROM clock_timestamp() - prepared)::float
    FROM pg_prepared_xacts WHERE database = current_database()
    """
)


def judge_autovacuum(spec: SignalSpec, name: str, is_on: bool, options: Sequence[str]) -> Iterator[Finding]:
    set_here = dict(option.partition("=")[::2] for option in options)
    remedy = f"ALTER TABLE {name} SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)."
    if not is_on:
        yield found("autovacuum-off", spec.name, "autovacuum is off in the whole server", "Set autovacuum = on.")
    elif set_here.get("autovacuum_enabled", "true") in ("false", "off", "0", "no"):
        remedy = f"ALTER TABLE {name} RESET (autovacuum_enabled)."
        yield found("autovacuum-off", spec.name, f"autovacuum is off for {name}", remedy)
    elif "autovacuum_vacuum_scale_factor" not in set_here:
        problem = f"{name} has no autovacuum settings of its own; after a big backlog, dead rows stay for long"
        yield found("autovacuum-default", spec.name, problem, remedy)


def check_bloat(
    connection: Connection, specs: Sequence[SignalSpec], held_seconds: float = HELD_SECONDS
) -> Iterator[Finding]:
    for spec in specs:
        name = connection.dialect.identifier_preparer.format_table(spec.table)
        row = connection.execute(_AUTOVACUUM, {"name": name}).one_or_none()
        if row is not None:
            yield from judge_autovacuum(spec, name, *row)
    for holder, seconds in connection.execute(_HOLDERS):
        if seconds is not None and seconds >= held_seconds:
            problem = f"it has held the horizon for {seconds:.0f} s: no row that died since can be removed"
            yield found("horizon-held", holder, problem, "End the transaction.")
