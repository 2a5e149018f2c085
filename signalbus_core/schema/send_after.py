"""The column ``signalbus_send_after``, and its index: signals that are not sent before a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Column, DateTime, Dialect, Index, Table, TypeDecorator, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, Mapper, declared_attr, has_inherited_table, mapped_column
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from ..model.schedule import SEND_AFTER
from .quoting import PLAIN, quoted, table_of


class SendAfter(TypeDecorator[datetime]):
    """A time with a time zone. One without is refused: what it means would depend on the session of the database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    # As migrations that Alembic makes write it: they need nothing of this package.
    __module__ = DateTime.__module__

    def __repr__(self) -> str:
        return "DateTime(timezone=True)"

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if not isinstance(value, datetime):
            raise TypeError(f"{SEND_AFTER} is {value!r}. It must be a datetime with a time zone, or None.")
        if value.utcoffset() is None:
            raise ValueError(
                f"{SEND_AFTER} is {value!r}, which has no time zone, so it is not known which moment is meant. "
                "datetime.now(timezone.utc) + timedelta(hours=1) has one; so has a time with tzinfo=ZoneInfo(...)."
            )
        # SQLite stores no time zone.
        return value if dialect.name == "postgresql" else value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=timezone.utc)


class _ReadableTime(FunctionElement[datetime]):
    """A time that Python can represent: years before 1970, and ``-infinity``, are 1970."""

    type = DateTime(timezone=True)
    inherit_cache = True


@compiles(_ReadableTime)
def _as_it_is(element: _ReadableTime, compiler: Any, **options: Any) -> str:
    return cast(str, compiler.process(element.clauses, **options))


@compiles(_ReadableTime, "postgresql")
def _readable(element: _ReadableTime, compiler: Any, **options: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **options)}, timestamptz '1970-01-01 00:00:00Z')"


def readable_time(column: Column[Any]) -> ColumnElement[Any]:
    """The column of a row whose time has come, as Python can represent it."""
    return cast("ColumnElement[Any]", _ReadableTime(column))


class ScheduledSignal:
    """Mixin for signals that are not sent before a time; put it before the signal class.

    ::

        class Reminder(ScheduledSignal, RabbitMQSignal, db.Model): ...

        db.session.add(Reminder(..., signalbus_send_after=datetime.now(timezone.utc) + timedelta(days=1)))

    - It adds the column ``signalbus_send_after``, with a time zone, and an index. NULL, or a time that has passed: the
      signal is sent at once.
    - The clock of the database decides. No signal is sent early; a relay sends it within 100 ms of its time.
    - ``db.signalbus.cancel(signal)`` cancels it, an ``UPDATE`` of the column moves it.

    A model with a ``__table__`` is scheduled when the table has the column.
    """

    if TYPE_CHECKING:
        signalbus_send_after: Mapped[datetime | None]
    else:

        @declared_attr
        def signalbus_send_after(cls):  # noqa: ANN201 - SQLAlchemy would take the annotation for the type of the column
            if getattr(cls, "__table__", None) is not None and not has_inherited_table(cls):
                return None
            return mapped_column(SEND_AFTER, SendAfter(), nullable=True, sort_order=9_999, use_existing_column=True)


@event.listens_for(ScheduledSignal, "after_mapper_constructed", propagate=True)
def _add_index(mapper: Mapper[Any], _model: type[Any]) -> None:
    table, column = mapper.local_table, mapper.columns.get(SEND_AFTER)
    if not isinstance(table, Table) or column is None:
        return
    wanted = [column, *mapper.primary_key]
    if not any(list(index.expressions) == wanted for index in table.indexes):
        # The key is part of it, so that bursts take signals in its order.
        Index(None, *wanted)


def scheduled_sql(*targets: type[Any] | Table | str, key: Sequence[str] = ("id",)) -> list[str]:
    """The statements that add the column and its index to tables, for migrations. They can be run again.

    The table is not rewritten: existing rows have NULL, and are sent at once. Making the index blocks writers of the
    table until it is made; in production, run ``CREATE INDEX CONCURRENTLY`` by hand.

    :param targets: signal models, tables, or names of tables (``"orders"``, ``"sales.orders"``).
    :param key: the columns of the primary key, of tables that are given by name.
    """
    statements: list[str] = []
    for table in map(table_of, targets):
        statements.append(f"ALTER TABLE {quoted(table)} ADD COLUMN IF NOT EXISTS {SEND_AFTER} timestamp with time zone")
        statements.append(index_sql(table, [column.name for column in table.primary_key] or key))
    return statements


def index_sql(table: Table, key: Sequence[str], column: str = SEND_AFTER) -> str:
    """The statement that makes the index."""
    quote = PLAIN.identifier_preparer.quote
    named: Column[Any] = Column(column, DateTime(timezone=True))
    name = quote(f"ix_{table.name}_{named.name}"[:63])
    columns = ", ".join(map(quote, [column, *key]))
    return f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(table)} ({columns})"
