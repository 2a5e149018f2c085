"""Signal models whose rows are messages, and whether their rows can be sent without instances.

Invariant: they can only where no code of the application would see the instances.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from inspect import getattr_static
from typing import Any, ClassVar, cast

from sqlalchemy import Column, Label, Over, Text, TextClause, TypeDecorator
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import ColumnElement, Selectable
from sqlalchemy.sql.expression import ColumnClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import iterate

from ...model.sending.senders import RowSender
from ...schema.signal_id import SIGNAL_ID
from ..amqp.message import Message
from ..message_id import identity_of
from ..signal import RabbitMQSignal
from .outbox_row import message_from_values
from .row_messages import RowPlan, has_attribute, trace_of


class RowSignal(RabbitMQSignal):
    """A signal model whose rows are messages. They are sent without instances if it has no code of its own."""

    #: The attribute from which each field is read: a field of ``message_from_row``, ``headers_text``, or
    #: ``headers.NAME`` for a single header.
    signalbus_fields: ClassVar[Mapping[str, str]] = {}

    def signalbus_message(self) -> Message:
        """Return the message that the row holds."""
        values = {field: getattr(self, attribute, None) for field, attribute in self.signalbus_fields.items()}
        parsed = getattr(self, "body_json", None)
        if parsed is not None and values.get("body_json") is None:
            # The instance was not loaded from the database.
            values["body_json"] = json.dumps(parsed, allow_nan=False)
        return message_from_values(values)

    @classmethod
    def signalbus_row_sender(cls) -> RowSender | None:
        """What sends rows of this model; None where only its instances can tell their messages."""
        return _row_sender(cast(Any, cls))


def _row_sender(model: type[RowSignal]) -> RowPlan | None:
    mapper: Mapper[Any] = model.__mapper__  # type: ignore[attr-defined]
    # Read first: it configures the mapper.
    columns = mapper.column_attrs
    if not isinstance(model.signalbus_fields, Mapping):
        return None
    fields = {field: one for field, one in model.signalbus_fields.items() if has_attribute(model, one)}
    identity = identity_of(cast(Any, model))
    # All attributes from which a message is made.
    names = {*fields.values(), *filter(None, [identity.written_at, SIGNAL_ID if identity.has_own else None])}
    names |= {name for name in ("body_json", *trace_of(model)) if has_attribute(model, name)}
    has_own_code = (
        model.signalbus_message is not RowSignal.signalbus_message
        or model.send_signalbus_message is not RabbitMQSignal.send_signalbus_message
        or _function(model.send_signalbus_messages) is not _function(RabbitMQSignal.send_signalbus_messages)
        or hasattr(model, "__getattr__")
        or model.__getattribute__ is not object.__getattribute__
        or not all(type(one) in (str, type(None)) for one in _usual_address(model))
        or not all(_is_of_row(mapper, name) for name in names)
        or not _has_json_as_text(mapper, fields)
        # Equal values of such a type may have different types.
        or any(isinstance(kind, TypeDecorator) for one in fields.values() for kind in _types(columns[one].columns[0]))
    )
    is_one_class = mapper.polymorphic_on is None and mapper.inherits is None
    if has_own_code or not is_one_class:
        return None
    expressions = tuple([columns[name].columns[0] for name in sorted(names)])
    return _plan(
        cast(Any, model), tuple(fields.items()), (model.signalbus_exchange, model.signalbus_routing_key), expressions
    )


@lru_cache(maxsize=1024)
def _plan(
    model: type[RowSignal],
    fields: tuple[tuple[str, str], ...],
    address: tuple[str | None, str | None],
    _expressions: tuple[ColumnElement[Any], ...],
) -> RowPlan:
    # Cached by all that it is made of: statements and encoded messages are kept with it from one burst to the next.
    return RowPlan(model, dict(fields), address)


def _is_of_row(mapper: Mapper[Any], name: str) -> bool:
    """Whether the attribute is a column of the table, or computed from its columns alone, without a subquery."""
    if name not in mapper.column_attrs:
        return False
    if getattr_static(mapper.class_, name) is not mapper.class_manager.get(name):
        return False
    return all(
        part.table is mapper.local_table
        if isinstance(part, Column)
        # A function is a Selectable too. Literal SQL may contain anything.
        else isinstance(part, FunctionElement) or not isinstance(part, (Selectable, TextClause, ColumnClause, Over))
        for part in iterate(mapper.column_attrs[name].columns[0])
    )


def _has_json_as_text(mapper: Mapper[Any], fields: Mapping[str, str]) -> bool:
    """Whether the attribute ``body_json``, where there is one, holds nothing that the field lacks."""
    columns, field = mapper.column_attrs, fields.get("body_json")
    if field == "body_json" or not has_attribute(mapper.class_, "body_json"):
        return True
    text: Any = None if field is None else columns[field].columns[0]
    text = text.element if isinstance(text, Label) else text
    return text is not None and bool(text.compare(sql_cast(columns["body_json"].columns[0], Text)))


def _types(column: ColumnElement[Any]) -> list[object]:
    return [column.type, *column.type._variant_mapping.values()]


def _usual_address(model: type[RowSignal]) -> list[object]:
    return [getattr_static(model, name) for name in ("signalbus_exchange", "signalbus_routing_key")]


def _function(method: Any) -> object:
    return getattr(method, "__func__", method)
