"""The tables of the models and of Signalbus: their structure, and the privileges of the relay's login."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from signalbus_core.lowlevel import (
    LATER_COLUMNS,
    PLAIN,
    SignalSpec,
    error_text,
    history_problem,
    key_problems,
    lacks_columns,
    locate,
    order_problems,
    parked_table_of,
    paused_table_of,
    quoted,
    table_conflicts,
    table_privileges,
    table_problem,
)

from ..poller.diagnosis.unreached import session_text
from ..poller.joint_query import is_lock_timeout
from .finding import Finding, finding_of_text, found

#: The privileges that relays and operators need on each table of Signalbus.
_PARKED_NEEDS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_PAUSED_NEEDS = ("SELECT", "INSERT", "DELETE")

#: What is missing without the table, or without a privilege on it.
_WITHOUT = {
    "parked": ": relays that start, and each flushmany(), try failed signals again, and send again what was sent and "
    "cannot be deleted",
    "paused": "",
}

# Row locks need UPDATE on one column at least.
# https://www.postgresql.org/docs/current/sql-select.html#SQL-FOR-UPDATE-SHARE
_FACTS = text(
    """
    SELECT has_table_privilege(oid, 'SELECT') AS "SELECT", has_table_privilege(oid, 'DELETE') AS "DELETE",
           has_any_column_privilege(oid, 'UPDATE') AS "UPDATE",
           relpersistence <> 'p' AS is_unlogged, row_security_active(oid) AS hides_rows,
           (SELECT string_agg(CAST(conrelid::regclass AS text), ', ') FROM pg_constraint
            WHERE contype = 'f' AND confrelid = c.oid AND confdeltype IN ('a', 'r')) AS referenced_by
    FROM pg_class c WHERE oid = to_regclass(:name)
    """
)
_SCHEMA_CLOSED = text(
    "SELECT NOT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = CAST(:schema AS text)"
)
#: Whether a valid index begins with these columns, in this order.
_ORDERED_INDEX = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = to_regclass(:name) AND i.indisvalid AND i.indpred IS NULL
          AND (SELECT array_agg(a.attname::text ORDER BY k.position)
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
               LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
               WHERE k.position <= :length) = CAST(:columns AS text[])
    )
    """
)


def check_table(connection: Connection, spec: SignalSpec) -> Iterator[Finding]:
    """Check one model's table; when it does not exist, nothing else about it."""
    name = quoted(spec.table)
    if spec.table.schema and connection.scalar(_SCHEMA_CLOSED, {"schema": spec.table.schema}):
        schema = PLAIN.identifier_preparer.quote(spec.table.schema)
        remedy = f"GRANT USAGE ON SCHEMA {schema} to the relay's login."
        yield found("schema-usage-missing", spec.name, f"the schema {spec.table.schema} is closed to it", remedy)
        return
    facts = connection.execute(_FACTS, {"name": name}).one_or_none()
    problem = table_problem(connection, spec)
    try:
        problem = problem or key_problems(connection, [spec]).get(spec.name)
    except DBAPIError as error:
        if is_lock_timeout(error):
            yield from (replace(one, area="tables") for one in locked_table_finding(connection, spec))
            return
        text = f"its key could not be checked: {error_text(error)}"
        yield found("area-failed", spec.name, text, "See what holds the table, and run the check again.", area="tables")
    if problem is not None:
        yield finding_of_text("table-missing" if facts is None else "table-unfit", spec.name, problem)
    if facts is not None:
        # Rows that are marked are not deleted.
        unneeded = {"DELETE": True, "referenced_by": None} if spec.done else {}
        yield from table_findings(spec.name, name, {**facts._asdict(), **unneeded})
    if problem is None:
        yield from check_order(connection, spec, name)
        yield from check_schedule(connection, spec, name)


def locked_table_finding(connection: Connection, spec: SignalSpec) -> Iterator[Finding]:
    """Who keeps a model's table from being read; nothing when nobody is known."""
    holder = locate.table_holder(connection, spec)
    if holder is not None:
        remedy = f"Wait until that transaction ends, or end it: SELECT pg_terminate_backend({holder.pid})."
        yield found("model-blocked", spec.name, f"its table is locked by {session_text(holder)}", remedy)


def table_findings(model: str, name: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """:param facts: from the catalog; privileges by their names."""
    missing = [privilege for privilege in ("SELECT", "DELETE", "UPDATE") if not facts[privilege]]
    if missing:
        remedy = f"GRANT {', '.join(missing)} ON {name} to the relay's login (UPDATE of one column will do)."
        yield found("privilege-missing", model, f"the login lacks {', '.join(missing)} on {name}", remedy)
    if facts["is_unlogged"]:
        problem = f"{name} is unlogged: a crash of the server empties it, and loses its signals"
        yield found("table-unlogged", model, problem, f"ALTER TABLE {name} SET LOGGED.")
    if facts["hides_rows"]:
        problem = f"row-level security of {name} may hide signals from the login"
        yield found("row-security", model, problem, "Give the login BYPASSRLS, or a policy that shows it all rows.")
    if facts["referenced_by"]:
        problem = f"signals that {facts['referenced_by']} refers to cannot be deleted, and are not sent"
        yield found("table-referenced", model, problem, "Drop the foreign key, or have it say ON DELETE SET NULL.")


def check_order(connection: Connection, spec: SignalSpec, name: str) -> Iterator[Finding]:
    """Whether an index has the order in which signals are selected."""
    columns = [column.name for column in spec.primary_key]
    if not connection.scalar(_ORDERED_INDEX, {"name": name, "columns": columns, "length": len(columns)}):
        names = ", ".join(map(PLAIN.identifier_preparer.quote, columns))
        remedy = f"CREATE INDEX ON {name} ({names})."
        yield found("index-order", spec.name, "no index has the order of the model's key: each burst sorts", remedy)


def check_schedule(connection: Connection, spec: SignalSpec, name: str) -> Iterator[Finding]:
    """Whether an index finds the signals that are due, and when the next one is."""
    if spec.schedule is None or len(spec.schedule.columns) > 1:
        return
    columns = [column.name for column in (*spec.schedule.columns, *spec.primary_key)]
    if not connection.scalar(_ORDERED_INDEX, {"name": name, "columns": columns, "length": len(columns)}):
        problem = f"no index on {', '.join(columns)}: polls read future signals, and due ones wait for a poll"
        names = ", ".join(map(PLAIN.identifier_preparer.quote, columns))
        remedy = f"CREATE INDEX CONCURRENTLY ON {name} ({names}), then start the relays again."
        yield found("index-schedule", spec.name, problem, remedy)


def check_tables(
    connection: Connection,
    specs: Sequence[SignalSpec],
    beside: Sequence[SignalSpec] = (),
    elsewhere: Mapping[str, str] | None = None,
) -> Iterator[Finding]:
    """:param beside: models of other binds that are the same database.

    :param elsewhere: the owners of the tables of other binds, which may be the same database.
    """
    fit: list[SignalSpec] = []
    for spec in specs:
        findings = list(check_table(connection, spec))
        yield from findings
        if not {"schema-usage-missing", "table-unfit"} & {finding.code for finding in findings}:
            fit.append(spec)
    for name, problem in order_problems(connection, fit).items():
        yield finding_of_text("order-unfit", name, problem)
    conflicts = table_conflicts(connection, [*beside, *fit], elsewhere)
    for name in conflicts.keys() & {spec.name for spec in fit}:
        yield finding_of_text("table-unfit", name, conflicts[name])
    yield from check_own_table(connection, "parked", {parked_table_of(spec) for spec in specs}, _PARKED_NEEDS)
    yield from check_parked_columns(connection, {parked_table_of(spec) for spec in specs})
    yield from check_own_table(connection, "paused", {paused_table_of(spec) for spec in specs}, _PAUSED_NEEDS)
    for table, problem in history_problem(connection, specs).items():
        yield finding_of_text("sent-table", table.fullname, problem)


def check_parked_columns(connection: Connection, tables: Iterable[Table]) -> Iterator[Finding]:
    """Whether the table of parked signals has the columns that later versions have added."""
    for table in sorted(tables, key=lambda table: table.fullname):
        if table_privileges(connection, table) is not None and lacks_columns(connection, table):
            problem = (
                f"the table lacks {' or '.join(LATER_COLUMNS)}: a new signal under the key of a failed one is left "
                "alone with it, and each signal of a dead destination is tried"
            )
            yield found("parked-table-old", table.fullname, problem, "Run what `signalbus-relay ddl parked` prints.")


def check_own_table(
    connection: Connection, name: str, tables: Iterable[Table], needed: Sequence[str]
) -> Iterator[Finding]:
    """Check a table of Signalbus, in each schema in which the application has it."""
    for table in sorted(tables, key=lambda table: table.fullname):
        granted = table_privileges(connection, table)
        if granted is None:
            remedy = f"Create it; `signalbus-relay ddl {name}` prints it."
            yield found(f"{name}-table", table.fullname, f"the table does not exist{_WITHOUT[name]}", remedy)
        elif missing := ", ".join(word for word in needed if word not in granted):
            remedy = f"GRANT {missing} ON {quoted(table)} to the relay's login."
            problem = f"the login lacks {missing} on the table{_WITHOUT[name]}"
            yield found(f"{name}-table", table.fullname, problem, remedy)
