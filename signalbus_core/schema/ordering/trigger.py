"""The triggers that draw the positions of signals, and refuse to change them.

Keys share a bounded number of locks. So a transaction that writes many keys takes few locks, and two transactions that
write different keys may wait for each other; they deadlock only where they would with a lock for each row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table

from ...model.order import POSITION
from ..ddl import TableStatement, function_of, function_statement, trigger_statement
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


def trigger_statements(table: Table, by: Sequence[str]) -> list[TableStatement]:
    """What creates the triggers of a table whose key is ``by``, or replaces older ones."""
    function = name_of(table, "position")

    def when_changed(compiler: Any) -> str:
        columns = [compiler.preparer.quote(one) for one in (*by, POSITION)]
        return f"WHEN ({' OR '.join(f'OLD.{one} IS DISTINCT FROM NEW.{one}' for one in columns)}) "

    return [
        # With the rights of its owner: who may insert need not be allowed to use the sequence.
        function_statement(
            table, function, function_source(table, by), "SECURITY DEFINER SET search_path = pg_catalog, pg_temp "
        ),
        # No other role may use it: a trigger of theirs would have the rights of its owner.
        TableStatement(table, lambda one: f"REVOKE ALL ON FUNCTION {function_of(table, function, one)}() FROM PUBLIC"),
        trigger_statement(table, TRIGGER_NAME, function, "BEFORE INSERT", "ROW"),
        # Refuses an update of key or position.
        trigger_statement(table, GUARD_NAME, function, "BEFORE UPDATE", "ROW", when_changed),
    ]


def sqlite_statement(table: Table) -> TableStatement:
    """What creates the trigger that numbers the signals of a table in SQLite."""

    def text_of(compiler: Any) -> str:
        target, name = compiler.preparer.format_table(table), compiler.preparer.quote(name_of(table, "position"))
        return (
            f"CREATE TRIGGER IF NOT EXISTS {name} AFTER INSERT ON {target} BEGIN UPDATE {target} SET {POSITION} = "
            f"(SELECT coalesce(max({POSITION}), 0) + 1 FROM {target}) WHERE rowid = NEW.rowid; END"
        )

    return TableStatement(table, text_of)


def name_of(table: Table, purpose: str) -> str:
    """The name of an object that belongs to a table."""
    name = f"{table.name}_signalbus_{purpose}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(table.name.encode()).hexdigest()[:12]
    return f"signalbus_{purpose}_{digest}"


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
