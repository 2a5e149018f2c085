"""Has Alembic's autogenerate write the doorbells of signal models. Import it in ``env.py``; it needs Alembic.

::

    import signalbus_core.alembic  # noqa: F401

It leaves the partitions of ``signalbus_sent`` alone, which no model has: relays make and drop them.

The migrations that it writes need ``signalbus_core``, and nothing of this module.
"""

from __future__ import annotations

from typing import Any

import alembic.util
from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import DropTableOp, MigrateOperation, ModifyTableOps, UpgradeOps
from sqlalchemy.engine import Connection

from .schema.doorbell import TRIGGER_NAME, comes_with_table, table_problem
from .schema.own_tables import SENT
from .schema.quoting import quoted, table_of
from .schema.sent_partitions import partitions_of


class CreateDoorbellOp(MigrateOperation):
    """Creates the doorbell of a table, or replaces an outdated one.

    :param name: of the table, with its schema.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def reverse(self) -> DropDoorbellOp:
        return DropDoorbellOp(self.name)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("add_doorbell", self.name)


class DropDoorbellOp(CreateDoorbellOp):
    """Drops the doorbell of a table."""

    def reverse(self) -> CreateDoorbellOp:  # type: ignore[override]
        return CreateDoorbellOp(self.name)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("remove_doorbell", self.name)


#: After tables are compared: a doorbell is created after its table. Older versions call in the order of registration.
_LAST: dict[str, Any] = (
    {"priority": alembic.util.DispatchPriority.LAST} if hasattr(alembic.util, "DispatchPriority") else {}
)


@comparators.dispatch_for("schema", **_LAST)
def _compare(context: AutogenContext, upgrade_ops: UpgradeOps, schemas: set[str | None]) -> None:
    connection = context.connection
    if connection is None or connection.dialect.name != "postgresql":
        return
    _keep_partitions(context, connection, upgrade_ops)
    for table in context.sorted_tables:
        is_meant = table.schema in schemas and context.run_object_filters(table, table.name, "table", False, None)
        if is_meant and comes_with_table(table) and table_problem(connection, table) is not None:
            upgrade_ops.ops.append(CreateDoorbellOp(table.fullname))


def _keep_partitions(context: AutogenContext, connection: Connection, upgrade_ops: UpgradeOps) -> None:
    """Take out what would drop the partitions of a history that stays."""
    histories = [one for one in context.sorted_tables if one.name == one.metadata.info.get(SENT.name, SENT.name)]
    kept = {name for table in histories for name in partitions_of(connection, table)}
    default = connection.dialect.default_schema_name
    upgrade_ops.ops = [
        op
        for op in upgrade_ops.ops
        if not isinstance(op, DropTableOp | ModifyTableOps) or (op.schema or default, op.table_name) not in kept
    ]


@renderers.dispatch_for(CreateDoorbellOp)
def _render_creation(context: AutogenContext, op: CreateDoorbellOp) -> list[str]:
    context.imports.add("from signalbus_core import doorbell_sql")
    return [f"for statement in doorbell_sql({op.name!r}):\n    op.execute(statement)"]


@renderers.dispatch_for(DropDoorbellOp)
def _render_removal(_context: AutogenContext, op: DropDoorbellOp) -> list[str]:
    statement = f"DROP TRIGGER IF EXISTS {TRIGGER_NAME} ON {quoted(table_of(op.name))}"
    return [f"op.execute({statement!r})"]
