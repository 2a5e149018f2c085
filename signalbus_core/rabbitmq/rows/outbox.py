"""The ready-made outbox table: a signal model whose rows are messages. Programs in any language may write them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    event,
    func,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Mapper, column_property, mapped_column, registry
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from ...schema.quoting import PLAIN
from ...schema.send_after import ScheduledSignal
from .outbox_row import BODIES, FIELDS
from .row_signal import RowSignal

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


#: The name of the constraint that a row has one body.
ONE_BODY = "one_body"

#: The attribute that holds the JSON body as text.
JSON_TEXT = "body_json_text"


def _json() -> JSON:
    # JSONB on PostgreSQL, so that Alembic's autogenerate finds no difference. None is SQL NULL, not JSON null.
    return JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class OutboxMessage(RowSignal):
    """Mixin for an outbox table whose rows hold messages; put it before ``db.Model``.

    ::

        class OrdersOutbox(OutboxMessage, db.Model):
            __tablename__ = "orders_outbox"

        db.session.add(OrdersOutbox(exchange="orders", routing_key="order.placed", body_json={"order_id": 1}))

    - A row has one body: ``body`` (bytes), ``body_text`` or ``body_json``. An empty body is ``b""``; on PostgreSQL a
      constraint refuses a row without any.
    - Where ``exchange`` or ``routing_key`` is NULL, the model's ``signalbus_exchange`` or ``signalbus_routing_key``
      is used.
    - ``message_type`` becomes the property ``type``; ``expiration`` counts milliseconds; the message's ``timestamp`` is
      that of the row, else its ``created_at``. What is NULL is filled in as ``RabbitMQSignal`` does.
    - A row that is no valid message (headers that are no JSON object, a priority of 300) becomes a failed signal and is
      parked in the end, with the reason.

    A subclass may add columns, and leave one out by setting it to None. :func:`outbox_model` makes a model without a
    class statement; ``signalbus-relay run --table`` relays such tables without any application.
    """

    if TYPE_CHECKING:
        id: Mapped[int]
        exchange: Mapped[str | None]
        routing_key: Mapped[str | None]
        body: Mapped[bytes | None]
        body_text: Mapped[str | None]
        body_json: Mapped[Any | None]
        headers: Mapped[dict[str, Any] | None]
        content_type: Mapped[str | None]
        content_encoding: Mapped[str | None]
        message_type: Mapped[str | None]
        message_id: Mapped[str | None]
        correlation_id: Mapped[str | None]
        reply_to: Mapped[str | None]
        expiration: Mapped[int | None]
        priority: Mapped[int | None]
        delivery_mode: Mapped[int | None]
        app_id: Mapped[str | None]
        user_id: Mapped[str | None]
        timestamp: Mapped[datetime | None]
        created_at: Mapped[datetime]

        def __init__(self, **columns: Any) -> None: ...
    else:
        # Without annotations, so that they do not become arguments of a dataclass model.
        id = mapped_column(BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True)
        exchange = mapped_column(Text)
        routing_key = mapped_column(Text)
        body = mapped_column(LargeBinary)
        body_text = mapped_column(Text)
        body_json = mapped_column(_json())
        headers = mapped_column(_json())
        content_type = mapped_column(Text)
        content_encoding = mapped_column(Text)
        message_type = mapped_column(Text)
        message_id = mapped_column(Text)
        correlation_id = mapped_column(Text)
        reply_to = mapped_column(Text)
        expiration = mapped_column(BigInteger)
        priority = mapped_column(SmallInteger)
        delivery_mode = mapped_column(SmallInteger)
        app_id = mapped_column(Text)
        user_id = mapped_column(Text)
        timestamp = mapped_column(DateTime(timezone=True))
        created_at = mapped_column(DateTime(timezone=True), nullable=False, server_default=func.now())

    signalbus_fields = {**dict(zip(FIELDS, FIELDS, strict=True)), "body_json": JSON_TEXT}  # noqa: RUF012


def outbox_model(
    db: SQLAlchemy,
    table_name: str = "outbox",
    *,
    schema: str | None = None,
    bind_key: str | None = None,
    exchange: str | None = None,
    routing_key: str | None = None,
    scheduled: bool = False,
) -> type[OutboxMessage]:
    """Make a model for an outbox table with the columns of ``OutboxMessage``.

    ::

        Outbox = outbox_model(db, "orders_outbox", exchange="orders")

    :param bind_key: the key in ``SQLALCHEMY_BINDS`` of the database that the table lives in.
    :param exchange: of rows that name none.
    :param routing_key: of rows that name none.
    :param scheduled: with the column ``signalbus_send_after`` of :class:`~signalbus_core.ScheduledSignal`.
    """
    members: dict[str, Any] = {
        "__module__": __name__,
        "__tablename__": table_name,
        "__table_args__": {"schema": schema},
        "signalbus_exchange": exchange,
        "signalbus_routing_key": routing_key,
    }
    if bind_key is not None:
        members["__bind_key__"] = bind_key
    name = "".join(word[:1].upper() + word[1:] for word in re.findall(r"\w+", table_name.replace("_", " ")))
    return type(name or "Outbox", (*_mixins(scheduled), OutboxMessage, cast(Any, db).Model), members)


def _mixins(scheduled: bool) -> tuple[type[Any], ...]:
    return (ScheduledSignal,) if scheduled else ()


@event.listens_for(OutboxMessage, "after_mapper_constructed", propagate=True)
def _complete(mapper: Mapper[Any], _model: type[Any]) -> None:
    """Add what depends on which columns a model has."""
    # Not in __table_args__, which a subclass may define itself.
    table = mapper.local_table
    bodies = [mapper.columns[name] for name in BODIES if name in mapper.columns]
    if isinstance(table, Table) and bodies and not any(one.name == ONE_BODY for one in table.constraints):
        check = CheckConstraint(func.num_nonnulls(*bodies) == 1, name=ONE_BODY)
        table.append_constraint(check.ddl_if(dialect="postgresql"))
    # As text from the database: parsing and serializing it in Python would round numbers.
    if "body_json" in mapper.columns and not mapper.has_property(JSON_TEXT):
        mapper.add_property(JSON_TEXT, column_property(sql_cast(mapper.columns["body_json"], Text)))


def outbox_table_sql(table_name: str, schema: str | None = None, *, scheduled: bool = False) -> str:
    """The statements that create in PostgreSQL the table of an ``OutboxMessage``, for migrations written by hand.

    :param scheduled: with the column ``signalbus_send_after`` of :class:`~signalbus_core.ScheduledSignal`, and its
      index.
    """
    members = {"__tablename__": table_name, "__table_args__": {"schema": schema}}
    model = type("Outbox", (*_mixins(scheduled), OutboxMessage, registry().generate_base()), members)
    table = model.__table__  # type: ignore[attr-defined]
    assert isinstance(table, Table)
    elements: list[DDLElement] = [CreateTable(table), *map(CreateIndex, table.indexes)]
    statements = [f"{str(element.compile(dialect=PLAIN)).strip()};" for element in elements]
    return _NAME_OR_BLANK.sub(lambda found: _TIDY.get(found[0], found[0]), "\n".join(statements))


#: A quoted name, which stays as it is, or blanks of SQLAlchemy's layout.
_NAME_OR_BLANK = re.compile(r'"(?:[^"]|"")*"|\t| \n')

_TIDY = {"\t": "    ", " \n": "\n"}
