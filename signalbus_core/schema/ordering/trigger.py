"""The triggers that draw the positions of signals, and refuse to change them, as DDL that can be run again.

Keys share a bounded number of locks. So a transaction that writes many keys takes few locks, and two transactions that
write different keys may wait for each other; they deadlock only where they would with a lock for each row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement

from ...model.order import POSITION
from ..quoting import PLAIN

#: First key of an advisory lock of the writers of a key; the second is made of the table and the key.
ORDER_LOCK = 1396853555

#: Keys share so many locks, as a power of two. More: fewer writers of different keys wait for each other, and a
#: transaction that writes many keys takes more of the server's ``max_locks_per_transaction``.
STRIPE_BITS = 8

TRIGGER_NAME = "signalbus_position"

GUARD_NAME = "signalbus_position_guard"

#: The longest name in PostgreSQL.
_LONGEST_NAME = 63


class _OrderDDL(ExecutableDDLElement):
    def __init__(self, table: Table, by: Sequence[str]) -> None:
        self.table = table
        self.by = tuple(by)


class CreatePositionFunction(_OrderDDL):
    """Creates the trigger function of a table, or replaces an older one."""


class KeepPositionFunction(_OrderDDL):
    """Lets no other role use the trigger function: a trigger of theirs would have the rights of its owner."""


class CreatePositionTrigger(_OrderDDL):
    """Creates the trigger that draws positions, or replaces an older one. Waits for writers of the table."""


class CreatePositionGuard(_OrderDDL):
    """Creates the trigger that refuses an update of key or position, or replaces an older one."""


class CreateSQLiteTrigger(_OrderDDL):
    """Creates the trigger that numbers the signals of a table in SQLite."""


CREATED_WITH_TABLE = (CreatePositionFunction, KeepPositionFunction, CreatePositionTrigger, CreatePositionGuard)


def name_of(table: Table, purpose: str) -> str:
    """The name of an object that belongs to a table."""
    name = f"{table.name}_signalbus_{purpose}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(table.name.encode()).hexdigest()[:12]
    return f"signalbus_{purpose}_{digest}"


def _function_of(table: Table, compiler: Any) -> str:
    # Formatted like a table, so that schema translation and quoting are the same.
    return str(compiler.preparer.format_table(Table(name_of(table, "position"), MetaData(), schema=table.schema)))


def function_source(table: Table, by: Sequence[str], quote: Any = PLAIN.identifier_preparer.quote) -> str:
    """The body of the trigger function."""
    is_ordered = " AND ".join(f"NEW.{quote(one)} IS NOT NULL" for one in by)
    row = ", ".join(f"NEW.{quote(one)}" for one in by)
    what = table.fullname.replace("'", "''")
    # Names are qualified, so that the search path does not matter. The partitions of a table share locks and positions.
    return f"""
DECLARE
    root oid := coalesce(pg_catalog.pg_partition_root(TG_RELID), TG_RELID);
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = 'the key and the position of a signal of {what}'
            ' do not change: signals of its key may be on their way; delete it, and insert another one';
    END IF;
    IF {is_ordered} THEN
        PERFORM pg_catalog.pg_advisory_xact_lock({ORDER_LOCK}, pg_catalog.hashint8(
            (CAST(root AS bigint) << {STRIPE_BITS})
            | (pg_catalog.hash_record_extended(ROW({row}), 0) & {2**STRIPE_BITS - 1})));
    END IF;
    NEW.{POSITION} := pg_catalog.nextval(CAST(
        pg_catalog.pg_get_serial_sequence(CAST(CAST(root AS regclass) AS text), '{POSITION}') AS regclass));
    RETURN NEW;
END
"""


@compiles(CreatePositionFunction)
def _compile_function(element: CreatePositionFunction, compiler: Any, **_: Any) -> str:
    source = function_source(element.table, element.by)
    if compiler.preparer._double_percents:
        source = source.replace("%", "%%")
    # With the rights of its owner: who may insert need not be allowed to use the sequence.
    return (
        f"CREATE OR REPLACE FUNCTION {_function_of(element.table, compiler)}() RETURNS trigger LANGUAGE plpgsql "
        f"SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $signalbus${source}$signalbus$"
    )


@compiles(KeepPositionFunction)
def _compile_keep(element: KeepPositionFunction, compiler: Any, **_: Any) -> str:
    return f"REVOKE ALL ON FUNCTION {_function_of(element.table, compiler)}() FROM PUBLIC"


@compiles(CreatePositionTrigger)
def _compile_trigger(element: CreatePositionTrigger, compiler: Any, **_: Any) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER {TRIGGER_NAME} BEFORE INSERT ON {compiler.preparer.format_table(element.table)} "
        f"FOR EACH ROW EXECUTE FUNCTION {_function_of(element.table, compiler)}()"
    )


@compiles(CreatePositionGuard)
def _compile_guard(element: CreatePositionGuard, compiler: Any, **_: Any) -> str:
    columns = [compiler.preparer.quote(one) for one in (*element.by, POSITION)]
    changed = " OR ".join(f"OLD.{one} IS DISTINCT FROM NEW.{one}" for one in columns)
    return (
        f"CREATE OR REPLACE TRIGGER {GUARD_NAME} BEFORE UPDATE ON {compiler.preparer.format_table(element.table)} "
        f"FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION {_function_of(element.table, compiler)}()"
    )


@compiles(CreateSQLiteTrigger)
def _compile_sqlite(element: CreateSQLiteTrigger, compiler: Any, **_: Any) -> str:
    table = compiler.preparer.format_table(element.table)
    name = compiler.preparer.quote(name_of(element.table, "position"))
    return (
        f"CREATE TRIGGER IF NOT EXISTS {name} AFTER INSERT ON {table} BEGIN UPDATE {table} SET {POSITION} = "
        f"(SELECT coalesce(max({POSITION}), 0) + 1 FROM {table}) WHERE rowid = NEW.rowid; END"
    )
