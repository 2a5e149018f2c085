"""The column ``signalbus_id``: a globally unique id of each written row, which is never used again.

A primary key is not enough. After a failover to a standby that lagged, after ``TRUNCATE ... RESTART IDENTITY`` or a
restore, or in another service with a table of the same name, keys repeat, and consumers that drop ids that they have
seen would drop the new signals.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Table, TypeDecorator, Uuid, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import MappedColumn, Mapper, mapped_column
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from .quoting import quoted, table_of

#: The name of the column, and of the attribute.
SIGNAL_ID = "signalbus_id"

#: The key in ``Connection.info`` for the identity of the database.
_DATABASE = "signalbus_database"


class _RandomUuid(FunctionElement[str]):
    """A new UUID, made by the database, so that every row has one, whichever program writes it."""

    type = Uuid(as_uuid=False)
    inherit_cache = True


@compiles(_RandomUuid)
def _no_uuid(*_: Any, **__: Any) -> str:
    return "NULL"


@compiles(_RandomUuid, "postgresql")
def _postgresql_uuid(*_: Any, **__: Any) -> str:
    return "gen_random_uuid()"


@compiles(_RandomUuid, "sqlite")
def _sqlite_uuid(*_: Any, **__: Any) -> str:
    return "lower(hex(randomblob(16)))"


def signal_id_column() -> MappedColumn[Any]:
    """The column for models: a UUID that is read as text, the last column, made by the database.

    It may be NULL: rows older than the column keep the message id that they have without it.
    """
    return mapped_column(
        SIGNAL_ID,
        Uuid(as_uuid=False),
        nullable=True,
        server_default=_RandomUuid(),
        sort_order=10_000,
        use_existing_column=True,
    )


class _IdText(FunctionElement[str]):
    """An id as text. The driver would make an object of each UUID, and a text of that again."""

    type = Uuid(as_uuid=False)
    inherit_cache = True


@compiles(_IdText)
def _plain_id(element: _IdText, compiler: Any, **options: Any) -> str:
    return cast(str, compiler.process(element.clauses, **options))


@compiles(_IdText, "postgresql")
def _postgresql_id(element: _IdText, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS text)"


def signal_id_text(mapper: Mapper[Any]) -> ColumnElement[Any]:
    """The column of a model, as text where its type allows it."""
    column = mapper.columns[SIGNAL_ID]
    is_plain = type(column.type) is Uuid and column.type.native_uuid
    return cast("ColumnElement[Any]", _IdText(column)) if is_plain else column


def has_signal_id(mapper: Mapper[Any]) -> bool:
    """Whether a model has the column, with this name and of type UUID. Another type is an application's own column."""
    column = mapper.columns.get(SIGNAL_ID)
    if column is None:
        return False
    kind = column.type
    return isinstance(kind.impl_instance if isinstance(kind, TypeDecorator) else kind, Uuid)


def signal_id_sql(*targets: type[Any] | Table | str) -> list[str]:
    """The statements that add the column to tables, for migrations. They can be run again.

    The table is not rewritten, and locked only for a moment: existing rows have NULL, and keep the message id that they
    have without the column.

    :param targets: signal models, tables, or names of tables (``"orders"``, ``"sales.orders"``).
    """
    names = [quoted(table_of(target)) for target in targets]
    return [
        statement
        for name in names
        for statement in (
            f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {SIGNAL_ID} uuid",
            f"ALTER TABLE {name} ALTER COLUMN {SIGNAL_ID} SET DEFAULT gen_random_uuid()",
        )
    ]


def database_identity(connection: Connection) -> str:
    """Identifies a database uniquely, also among those of the same name; the same for all connections to it.

    A database that was created again, or restored into another server, is a different one; a promoted standby is the
    same. Empty where the database has no such identifier.
    """
    if connection.dialect.name != "postgresql":
        return ""
    found = connection.info.get(_DATABASE)
    if found is None:
        oid, may_ask = connection.execute(_THIS_DATABASE).one()
        found = f"{connection.scalar(_SYSTEM) if may_ask else 0}.{oid}"
        connection.info[_DATABASE] = found
    return cast(str, found)


# https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-CONTROL-SYSTEM
_SYSTEM = text("SELECT system_identifier FROM pg_catalog.pg_control_system()")
_THIS_DATABASE = text(
    """
    SELECT oid, has_function_privilege(to_regprocedure('pg_catalog.pg_control_system()'), 'EXECUTE')
    FROM pg_catalog.pg_database WHERE datname = current_database()
    """
)
