"""The doorbell: an insert trigger that sends NOTIFY, but only while a relay sleeps. It never makes an insert fail.

A NOTIFY in each transaction would make all commits of a database wait for each other. So a producer first tries to take
the advisory lock :data:`SLEEP_LOCK` of its table, shared. It gets the lock while no relay sleeps, and sends no NOTIFY:
a relay that goes to sleep waits until the producer's transaction has ended, and then polls once more. It does not get
the lock while a relay sleeps, or is waiting to, and sends NOTIFY. Locks and channel belong to one table, by its OID, so
relays of other tables, and of other applications in the same database, are not affected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, Table, Text, bindparam, event, text
from sqlalchemy.engine import Connection

from ..model.contract import SignalSpec
from .ddl import TableStatement, function_statement, trigger_statement
from .quoting import quoted, table_of

#: First key of an advisory lock; the second is the table's OID. Its holder is the leader, which answers the doorbell.
LEADER_LOCK = 1396853553

#: The same: a sleeping relay holds it exclusively; producers try to take it shared.
SLEEP_LOCK = 1396853554

#: The doorbell of a table notifies the channel with this name, followed by the table's OID.
CHANNEL_PREFIX = "signalbus_"

TRIGGER_NAME = "signalbus_doorbell"
FUNCTION_NAME = "signalbus_ring"

# Nothing here may make the producer fail: if the lock table is full it notifies; if NOTIFY fails, relays still poll.
# Names are qualified, so that the search path does not matter.
FUNCTION_SOURCE = f"""
BEGIN
    BEGIN
        IF pg_catalog.pg_try_advisory_xact_lock_shared({SLEEP_LOCK}, CAST(TG_RELID AS pg_catalog.int4)) THEN
            RETURN NULL;
        END IF;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    BEGIN
        PERFORM pg_catalog.pg_notify(pg_catalog.concat('{CHANNEL_PREFIX}', TG_RELID), '');
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    RETURN NULL;
END
"""


def channel_of(table_oid: int) -> str:
    """The NOTIFY channel of a table's doorbell."""
    return f"{CHANNEL_PREFIX}{table_oid}"


def doorbell_sql(*targets: type[Any] | Table | str) -> list[str]:
    """The statements that give signal tables a doorbell, for migrations. They can be run again.

    :param targets: signal models, tables, or names of tables (``"orders"``, ``"sales.orders"``). Models that opt out by
      ``signalbus_doorbell = False`` are left out.
    """
    wanted = [target for target in targets if not isinstance(target, type) or has_doorbell(target, table_of(target))]
    tables = [table_of(target) for target in wanted]
    functions = {table.schema: _function(table) for table in tables}
    return [str(statement) for statement in (*functions.values(), *map(_trigger, tables))]


def _function(table: Table) -> TableStatement:
    return function_statement(table, FUNCTION_NAME, FUNCTION_SOURCE)


def _trigger(table: Table) -> TableStatement:
    return trigger_statement(table, TRIGGER_NAME, FUNCTION_NAME, "AFTER INSERT", "STATEMENT")


def has_doorbell(model: type[Any], table: Table) -> bool:
    """Whether a model is to have a doorbell: unless it, or its metadata, sets ``signalbus_doorbell = False``."""
    return bool(getattr(model, "signalbus_doorbell", table.metadata.info.get("signalbus_doorbell", True)))


def create_with_table(model: type[Any], table: Table) -> None:
    """Create the doorbell of a model together with its table: by ``create_all()``, on PostgreSQL."""
    if has_doorbell(model, table) and not comes_with_table(table):
        event.listen(table, "after_create", _create_doorbell)


def comes_with_table(table: Table) -> bool:
    """Whether the doorbell of a table is created together with it."""
    return event.contains(table, "after_create", _create_doorbell)


def _create_doorbell(table: Table, connection: Connection, **_: Any) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(_function(table))
        connection.execute(_trigger(table))


@dataclass(frozen=True)
class Doorbell:
    """The doorbell of a signal model as it is in the database.

    :param table_oid: of the model's table; None when it is missing.
    :param problem: why it does not work, and what to do; None when it does.
    :param is_wanted: the model does not opt out.
    """

    spec: SignalSpec
    table_oid: int | None
    problem: str | None
    is_wanted: bool = True

    @property
    def rings(self) -> bool:
        return self.table_oid is not None and self.problem is None


def find_doorbells(connection: Connection, specs: Sequence[SignalSpec]) -> list[Doorbell]:
    """The doorbells of these models of one database, with their problems, by one query."""
    if connection.dialect.name != "postgresql":
        return [Doorbell(spec, None, "There are doorbells on PostgreSQL only.", _is_wanted(spec)) for spec in specs]
    rows = _facts(connection, [spec.table for spec in specs])
    return [
        Doorbell(spec, row.table_oid, _problem(spec.table, row), _is_wanted(spec))
        for spec, row in zip(specs, rows, strict=True)
    ]


def doorbell_problem(connection: Connection, spec: SignalSpec) -> str | None:
    """Why the doorbell of a model does not work, and what to do; None when it works, or is not wanted."""
    [doorbell] = find_doorbells(connection, [spec])
    return doorbell.problem if doorbell.is_wanted else None


def table_problem(connection: Connection, table: Table) -> str | None:
    """Why a table has no doorbell that works, and what to do; None when it has one. PostgreSQL only."""
    [row] = _facts(connection, [table])
    return _problem(table, row)


def _facts(connection: Connection, tables: Sequence[Table]) -> Sequence[Any]:
    names = [quoted(table) for table in tables]
    return connection.execute(_FACTS, {"names": names, "trigger_name": TRIGGER_NAME}).all()


def _is_wanted(spec: SignalSpec) -> bool:
    return has_doorbell(spec.model, spec.table)


def _problem(table: Table, row: Any) -> str | None:
    remedy = f"`signalbus-relay ddl doorbell {table.fullname}` prints what creates it."
    if row.table_oid is None:
        return f"The table {table.fullname} does not exist."
    if row.source is None:
        return f"The table {table.fullname} has no trigger {TRIGGER_NAME}. {remedy}"
    if row.enabled not in ("O", "A"):
        return (
            f"The trigger {TRIGGER_NAME} of the table {table.fullname} is disabled. "
            f"ALTER TABLE {quoted(table)} ENABLE TRIGGER {TRIGGER_NAME} enables it."
        )
    if row.source.strip() != FUNCTION_SOURCE.strip() or not row.on_insert:
        return f"The trigger {TRIGGER_NAME} of the table {table.fullname} is outdated. {remedy}"
    return None


#: Bit 4 of the type of a trigger: it fires on INSERT.
_FACTS = text(
    """
    SELECT CAST(c.oid AS bigint) AS table_oid, CAST(t.tgenabled AS text) AS enabled, p.prosrc AS source,
           coalesce(t.tgtype & 4 <> 0, false) AS on_insert
    FROM unnest(:names) WITH ORDINALITY AS n(name, position)
    LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(n.name)
    LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid AND t.tgname = :trigger_name AND NOT t.tgisinternal
    LEFT JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    ORDER BY n.position
    """
).bindparams(bindparam("names", type_=ARRAY(Text)))
