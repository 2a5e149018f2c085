"""The partitions of ``signalbus_sent``, one for each day until which something is kept: made ahead, dropped in time.

A partition is attached, not created in place: that waits for no reader or writer of the table, nor they for it. At most
one is dropped at a time, so that a clock that is wrong for a moment costs no more than a day.

https://www.postgresql.org/docs/current/ddl-partitioning.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Table, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from ..failures import error_text, is_lost
from .own_tables import SENT
from .quoting import PLAIN, quoted

#: Partitions are made for so many days ahead. More: nobody needs to act sooner when they cannot be made; less: fewer
#: empty partitions.
AHEAD_DAYS = 3

#: First key of the advisory lock under which partitions are made; the second is the OID of the table.
PARTITIONS_LOCK = 1396853556

#: More days than anybody keeps: a partition whose bounds cannot be read is never dropped.
_KEEP = date.max

#: The key in ``Table.info`` of for how many days models keep what was sent.
_KEEP_DAYS = "signalbus_keep_days"


@dataclass(frozen=True)
class Partition:
    """A partition: its quoted name, and the days of which it has rows."""

    name: str
    first: date
    end: date


@dataclass(frozen=True)
class SentState:
    """Whether what was sent can be kept.

    :param problem: what is wrong, with what to do; None when nothing is.
    :param is_usable: it is kept today.
    """

    problem: str | None = None
    is_usable: bool = True


_FACTS = text(
    """
    SELECT CAST(c.oid AS bigint) AS oid, CAST(c.relkind AS text) AS kind, CAST(timezone('UTC', now()) AS date) AS today,
           has_table_privilege(c.oid, 'INSERT') AS may_insert,
           pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(c.relnamespace, 'CREATE') AS may_make,
           ARRAY(SELECT CAST(attname AS text) FROM pg_attribute
                 WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns
    FROM pg_class c WHERE c.oid = to_regclass(:name)
    """
)

_PARTITIONS = text(
    """
    SELECT quote_ident(nspname) || '.' || quote_ident(relname) AS name, pg_get_expr(relpartbound, p.oid) = 'DEFAULT',
           CAST((regexp_match(bound, 'FROM \\(''([^'']+)''\\)'))[1] AS date) AS first,
           CAST((regexp_match(bound, 'TO \\(''([^'']+)''\\)'))[1] AS date) AS upto
    FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid JOIN pg_namespace n ON n.oid = p.relnamespace
    CROSS JOIN LATERAL (SELECT pg_get_expr(relpartbound, p.oid) AS bound) AS b
    WHERE i.inhparent = :oid
    ORDER BY 4
    """
)

_NAMES = text(
    """
    SELECT CAST(nspname AS text), CAST(relname AS text)
    FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid JOIN pg_namespace n ON n.oid = p.relnamespace
    WHERE i.inhparent = to_regclass(:name)
    """
)


def create_with_table(table: Table, keep_days: Any) -> None:
    """Make the first partitions together with the table: by ``create_all()``, on PostgreSQL.

    :param keep_days: of one model; further calls add those of others. A number of days that is none is refused where
      the model is used.
    """
    numbers = table.info.setdefault(_KEEP_DAYS, set())
    if type(keep_days) is int:
        numbers.add(keep_days)
    if not event.contains(table, "after_create", _create_partitions):
        event.listen(table, "after_create", _create_partitions)


def _create_partitions(table: Table, connection: Connection, **_: Any) -> None:
    if connection.dialect.name == "postgresql":
        prepare(connection, table, table.info[_KEEP_DAYS])


def prepare(connection: Connection, table: Table, keep_days: Collection[int], *, changes: bool = True) -> SentState:
    """Make the partitions for the days to come, where they are missing, and drop one that is past.

    To be called in a transaction, with a short lock timeout. Whatever fails is in the result.

    :param changes: False: only tell whether that is possible.
    """
    facts = connection.execute(_FACTS, {"name": quoted(table)}).one_or_none()
    if problem := _table_problem(table, facts):
        return SentState(problem, is_usable=False)
    assert facts is not None
    connection.execute(text("SET LOCAL datestyle = ISO"))
    partitions, has_default = _partitions(connection, facts.oid)
    failure: str | None = None
    wanted = _wanted_days(facts.today, keep_days)
    missing = [day for day in wanted if not _is_covered(day, partitions)]
    past = [one for one in partitions if one.end <= facts.today]
    if not changes and facts.may_make and not has_default:
        return SentState()
    if (
        changes
        and (missing or past)
        and connection.scalar(
            text("SELECT pg_try_advisory_xact_lock(:lock, CAST(CAST(:oid AS bigint) - 2147483648 AS int))"),
            {"lock": PARTITIONS_LOCK, "oid": facts.oid},
        )
    ):
        failure = _change(connection, table, missing, past[:1])
        partitions, has_default = _partitions(connection, facts.oid)
    uncovered = [day for day in wanted if not _is_covered(day, partitions)]
    soon = {facts.today + timedelta(days + ahead) for days in keep_days for ahead in (0, 1)}
    now = {facts.today + timedelta(days) for days in keep_days}
    if has_default:
        return SentState(
            f"{table.fullname} has a default partition, whose rows are kept for ever, and keep partitions from being "
            "made. Detach it: ALTER TABLE ... DETACH PARTITION."
        )
    lacking = sorted(soon.intersection(uncovered))
    if not lacking:
        return SentState()
    why = f" ({failure})" if failure else ""
    return SentState(
        f"{table.fullname} has no partition for rows that are kept until {lacking[0]}, and it could not be made{why}. "
        f"Let the relay's login make partitions: ALTER TABLE {quoted(table)} OWNER TO that login, and GRANT CREATE ON "
        "its schema; or make them yourself: `signalbus-relay ddl sent --ahead 400` prints them.",
        is_usable=not now.intersection(uncovered),
    )


def partitions_sql(table: Table, first: date, days: int) -> list[str]:
    """The statements that make partitions in place, for migrations written by hand."""
    return [
        f"CREATE TABLE IF NOT EXISTS {_name(table, day)} PARTITION OF {quoted(table)} FOR VALUES {_bounds(day)}"
        for day in (first + timedelta(number) for number in range(days))
    ]


def partitions_of(connection: Connection, table: Table) -> set[tuple[str, str]]:
    """The partitions that the table has, each as its schema and its name."""
    return {(schema, name) for schema, name in connection.execute(_NAMES, {"name": quoted(table)})}


def _table_problem(table: Table, facts: Any) -> str | None:
    create = f"`signalbus-relay ddl {SENT.name.removeprefix('signalbus_')}` prints it."
    if facts is None:
        return f"the table {table.fullname} does not exist. Create it: {create}"
    if facts.kind != "p":
        return (
            f"{table.fullname} is no partitioned table. Rename what has its name, or give the table of Signalbus "
            f"another one, by metadata.info['{SENT.name}']; {create}"
        )
    if missing := [column.name for column in table.columns if column.name not in facts.columns]:
        return f"the table {table.fullname} lacks {', '.join(missing)}. {create}"
    if not facts.may_insert:
        return f"the login may not write to {table.fullname}. GRANT SELECT, INSERT ON {quoted(table)} to it."
    return None


def _wanted_days(today: date, keep_days: Collection[int]) -> list[date]:
    return sorted({today + timedelta(days + ahead) for days in keep_days for ahead in range(AHEAD_DAYS + 1)})


def _is_covered(day: date, partitions: Iterable[Partition]) -> bool:
    return any(one.first <= day < one.end for one in partitions)


def _partitions(connection: Connection, oid: int) -> tuple[list[Partition], bool]:
    """The partitions, the first to end first; and whether there is a default partition."""
    rows = connection.execute(_PARTITIONS, {"oid": oid}).all()
    found = [
        Partition(name, first or date.min, end or _KEEP) for name, is_default, first, end in rows if not is_default
    ]
    return found, len(found) < len(rows)


def _change(connection: Connection, table: Table, missing: Iterable[date], past: Iterable[Partition]) -> str | None:
    """Make and drop partitions; return why that failed."""
    failure: str | None = None
    drops = [[f"DROP TABLE {one.name}"] for one in past]
    for statements in [*(_making(connection, table, day) for day in missing), *drops]:
        try:
            with connection.begin_nested():
                for statement in statements:
                    connection.execute(text(statement.replace(":", "\\:")))
        except SQLAlchemyError as error:
            if is_lost(error):
                raise
            failure = error_text(error)
    return failure


def _making(connection: Connection, table: Table, day: date) -> list[str]:
    name = _name(table, day)
    number = 1
    while connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is not None:
        # Somebody else's table.
        number += 1
        name = _name(table, day, f"_{number}")
    return [
        f"CREATE TABLE {name} (LIKE {quoted(table)} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)",
        f"ALTER TABLE {quoted(table)} ATTACH PARTITION {name} FOR VALUES {_bounds(day)}",
    ]


def _name(table: Table, day: date, suffix: str = "") -> str:
    name = PLAIN.identifier_preparer.quote(f"{table.name[:45]}_{day:%Y%m%d}{suffix}")
    return name if table.schema is None else f"{PLAIN.identifier_preparer.quote(table.schema)}.{name}"


def _bounds(day: date) -> str:
    return f"FROM ('{day}') TO ('{day + timedelta(1)}')"
