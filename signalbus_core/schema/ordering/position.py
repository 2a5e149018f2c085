"""The position of a signal among those of its key: a column, an index, and a trigger that draws it.

Invariant: of two committed signals of one key, the one that was committed first has the lower position, and whoever
sees the later one sees the earlier one too, unless it is deleted. The trigger takes an advisory lock of the key before
it draws the position, and the lock ends with the transaction: so the next writer of the key draws when this one's
signals are committed and visible, or rolled back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import BigInteger, Identity, Index, Integer, Table, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, Mapper, declared_attr, has_inherited_table, mapped_column
from sqlalchemy.schema import CreateColumn

from ...errors import SignalModelError
from ...model.contract import resolve
from ...model.order import POSITION, resolve_order
from ..quoting import PLAIN, quoted, table_of
from .trigger import name_of, sqlite_statement, trigger_statements


class OrderedSignal:
    """Mixin for a signal model whose signals of one key are sent in the order in which they were committed.

    ::

        class AccountChanged(OrderedSignal, RabbitMQSignal, db.Model):
            signalbus_order_by = "account_id"

            id = db.Column(db.BigInteger, primary_key=True)
            account_id = db.Column(db.BigInteger, nullable=False)

    - Signals of other keys wait for nothing. One with NULL in its key has no order, and waits for nothing either.
    - The next signal of a key is sent only when the broker has confirmed all messages of the one before.
    - A parked signal holds back the later ones of its key; with ``signalbus_on_parked = "skip"`` it does not.

    The mixin brings the column ``signalbus_position``, an index, and a trigger, which ``create_all()`` makes and
    ``signalbus-relay ddl order`` prints. Without the trigger the order is that of the inserts.
    """

    #: The column that is the key, or a tuple of several.
    signalbus_order_by: ClassVar[str | tuple[str, ...]]

    #: What follows from a parked signal for the later ones of its key: ``"block"`` or ``"skip"``.
    signalbus_on_parked: ClassVar[str] = "block"

    if TYPE_CHECKING:
        signalbus_position: Mapped[int]
    else:

        @declared_attr
        def signalbus_position(cls):  # noqa: ANN201 - SQLAlchemy would take the annotation for the type of the column
            has_table_of_its_own = getattr(cls, "__table__", None) is not None and not has_inherited_table(cls)
            return None if has_table_of_its_own else position_column()


def position_column() -> Any:
    """The column for models. Its default is the order of the inserts; the trigger draws it anew."""
    return mapped_column(
        POSITION,
        BigInteger().with_variant(Integer, "sqlite"),
        Identity(),
        nullable=False,
        sort_order=10_001,
        use_existing_column=True,
    )


@compiles(CreateColumn, "sqlite")
def _sqlite_column(element: CreateColumn, compiler: Any, **options: Any) -> Any:
    rendered = compiler.visit_create_column(element, **options)
    # SQLite has no identity columns; the trigger fills it in after the insert.
    return f"{rendered} DEFAULT 0" if element.element.name == POSITION and rendered else rendered


def order_sql(
    *targets: type[Any] | Table | str, by: str | Sequence[str] | None = None, where: str | None = None
) -> list[str]:
    """The statements that order signals by key, for migrations. They can be run again.

    The column is added to tables that lack it; that rewrites the table, which is locked meanwhile. Existing rows get
    positions in no particular order.

    :param targets: signal models, tables, or names of tables (``"orders"``, ``"sales.orders"``). Models without
      ``signalbus_order_by`` are left out.
    :param by: the column that is the key, or several. A model says it itself.
    :param where: the condition of the rows that are sent, where others stay in the table: only those are in the index.
    """
    statements: list[str] = []
    for target in targets:
        spec = resolve(target) if isinstance(target, type) else None
        if spec is not None and (order := spec.order) is not None:
            pending = where or (spec.condition if spec.done else None)
            statements += _statements(spec.table, [column.name for column in order.by], order.is_nullable, pending)
        elif not isinstance(target, type):
            if not by:
                raise ValueError("by: the column that is the key of the table, or several.")
            statements += _statements(table_of(target), [by] if isinstance(by, str) else list(by), True, where)
    return statements


def _statements(table: Table, names: Sequence[str], is_nullable: bool, where: str | None) -> list[str]:
    created = map(str, trigger_statements(table, names))
    return [_column_sql(table), *_index_sql(table, names, is_nullable, where), *created]


def _column_sql(table: Table) -> str:
    """Adds the column. Before version 17, PostgreSQL adds no identity column to a table that has partitions."""
    # A partitioned table gets a sequence, and no default, which would need rights on the sequence: the trigger draws.
    name = quoted(table)
    literal = name.replace("'", "''")
    oid = f"CAST('{literal}' AS regclass)"
    return f"""DO $signalbus$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = {oid} AND attname = '{POSITION}') THEN
        RETURN;
    ELSIF EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = {oid} AND relkind = 'p') THEN
        ALTER TABLE {name} ADD COLUMN {POSITION} bigserial;
        ALTER TABLE {name} ALTER COLUMN {POSITION} DROP DEFAULT;
    ELSE
        ALTER TABLE {name} ADD COLUMN {POSITION} bigint GENERATED BY DEFAULT AS IDENTITY;
    END IF;
END
$signalbus$"""


def _index_sql(table: Table, by: Sequence[str], is_nullable: bool, where: str | None) -> list[str]:
    quote = PLAIN.identifier_preparer.quote
    listed = ", ".join(map(quote, [*by, POSITION]))
    statements = [f"CREATE INDEX IF NOT EXISTS {quote(name_of(table, 'order'))} ON {quoted(table)} ({listed})"]
    if where is not None:
        statements[0] += f" WHERE {where}"
    if is_nullable and len(by) > 1:
        without = " OR ".join(f"{quote(one)} IS NULL" for one in by)
        name = quote(name_of(table, "unordered"))
        rest = "" if where is None else f" AND ({where})"
        statements.append(f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(table)} ({POSITION}) WHERE ({without}){rest}")
    return statements


def create_with_model(mapper: Mapper[Any], table: Table) -> None:
    """Create index and triggers together with the table of a model that has an order: by ``create_all()``."""
    name = name_of(table, "order")
    try:
        order = resolve_order(mapper, mapper.class_.__name__)
    except SignalModelError:
        # Raised by the bus, which knows all models.
        return
    if order is None or any(index.name == name for index in table.indexes):
        return
    Index(name, *order.by, order.position)
    if order.is_nullable and len(order.by) > 1:
        without = " OR ".join(f"{PLAIN.identifier_preparer.quote(one.name)} IS NULL" for one in order.by)
        Index(name_of(table, "unordered"), order.position, postgresql_where=text(without))
    by = [column.name for column in order.by]

    def create(created: Table, connection: Connection, **_: Any) -> None:
        if connection.dialect.name == "postgresql":
            for statement in trigger_statements(created, by):
                connection.execute(statement)
        elif connection.dialect.name == "sqlite":
            connection.execute(sqlite_statement(created))

    event.listen(table, "after_create", create)
