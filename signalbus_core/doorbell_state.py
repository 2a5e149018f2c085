"""What is the matter with the doorbells of signal models, as the database has them. Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, Text, bindparam, text
from sqlalchemy.engine import Connection

from .contract import SignalSpec
from .doorbell import FUNCTION_SOURCE, TRIGGER_NAME, has_doorbell
from .quoting import quoted


@dataclass(frozen=True)
class Doorbell:
    """The doorbell of a signal model as it is in the database.

    :param table_oid: of the model's table; None when there is no table.
    :param problem: why it does not ring, and what to do; None when it does.
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
    """Tell by one statement what is the matter with the doorbells of the models, which share a database."""
    if connection.dialect.name != "postgresql":
        return [Doorbell(spec, None, "There are doorbells on PostgreSQL only.", _is_wanted(spec)) for spec in specs]
    names = [quoted(spec.table) for spec in specs]
    rows = connection.execute(_FACTS, {"names": names, "trigger_name": TRIGGER_NAME})
    return [
        Doorbell(spec, row.table_oid, _problem(spec, row), _is_wanted(spec))
        for spec, row in zip(specs, rows, strict=True)
    ]


def doorbell_problem(connection: Connection, spec: SignalSpec) -> str | None:
    """Why inserts into the table of a model do not ring, and what to do; None when they do, or need not."""
    [doorbell] = find_doorbells(connection, [spec])
    return doorbell.problem if doorbell.is_wanted else None


def _is_wanted(spec: SignalSpec) -> bool:
    return has_doorbell(spec.model, spec.table)


def _problem(spec: SignalSpec, row: Any) -> str | None:
    remedy = f"`signalbus-relay ddl doorbell {spec.table.fullname}` prints what creates it."
    if row.table_oid is None:
        return f"The table {spec.table.fullname} does not exist."
    if row.source is None:
        return f"The table {spec.table.fullname} has no trigger {TRIGGER_NAME}. {remedy}"
    if row.enabled not in ("O", "A"):
        return (
            f"The trigger {TRIGGER_NAME} of the table {spec.table.fullname} is disabled. "
            f"ALTER TABLE {spec.table.fullname} ENABLE TRIGGER {TRIGGER_NAME} enables it."
        )
    if row.source.strip() != FUNCTION_SOURCE.strip() or not row.on_insert:
        return f"The trigger {TRIGGER_NAME} of the table {spec.table.fullname} is outdated. {remedy}"
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
