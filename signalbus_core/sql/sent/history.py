"""Finds what was sent, newest first. The rows, which are payloads, are read only where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast

from sqlalchemy import Text, bindparam, func, literal, literal_column, or_, select, text, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import UserDefinedType

from ...model.contract import SignalSpec
from ...model.sending.sent_messages import SentMessage
from ...schema.own_tables import SENT
from ..keys import usual_text

#: Names a row of the history.
PLACE = func.concat(literal_column("tableoid"), literal_column("ctid"), type_=Text).label("signalbus_place")

#: What is read of each.
_COLUMNS = ("key", "sent_at", "written_at", "keep_until", "message_id", "exchange", "routing_key", "more_messages")


@dataclass(frozen=True)
class SentSignal:
    """A signal that was sent.

    :param place: names its row in the history, until that is dropped.
    :param key: its primary key as text; of several columns, a JSON array.
    :param keep_until: the last day on which it is kept.
    :param messages: those that were made of it; empty where its send method did not tell.
    """

    model: str
    place: str
    key: str
    sent_at: datetime
    written_at: datetime | None
    keep_until: date
    messages: tuple[SentMessage, ...]


@dataclass(frozen=True)
class SentFilter:
    """Which of the signals that were sent are meant: those with all of this.

    :param key: as the database writes it.
    :param where: a condition of SQL on the column ``row``.
    :param since: sent at this time or later.
    :param until: sent before.
    """

    key: str | None = None
    message_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    where: str | None = None


EVERY_SENT = SentFilter()


def key_text_of(connection: Connection, spec: SignalSpec, given: str) -> str | None:
    """The text of a key as the history has it, of one that a person wrote; None when it is no key of the model."""
    try:
        with connection.begin_nested():
            found: str | None = connection.scalar(select(usual_text(spec, sql_cast(literal(given), Text))))
            return found
    except DataError:
        return None


def list_sent(connection: Connection, spec: SignalSpec, chosen: SentFilter, limit: int | None) -> list[SentSignal]:
    """What was sent of a model, the last first."""
    table = SENT.of(spec)
    found = select(PLACE, *(table.c[name] for name in _COLUMNS)).where(*conditions(spec, chosen))
    return [_signal(spec, row) for row in connection.execute(found.order_by(table.c.sent_at.desc()).limit(limit))]


def first_sent(
    connection: Connection, spec: SignalSpec, chosen: SentFilter, after: SentSignal | None, limit: int
) -> list[SentSignal]:
    """What was sent of a model, in the order in which it was sent.

    :param after: begin behind this one.
    """
    table = SENT.of(spec)
    found = select(PLACE, *(table.c[name] for name in _COLUMNS)).where(*conditions(spec, chosen))
    order: tuple[Any, ...] = (table.c.sent_at, literal_column("tableoid"), literal_column("ctid"))
    if after is not None:
        oid, _, rest = after.place.partition("(")
        here = (literal(after.sent_at), sql_cast(literal(oid), OID), sql_cast(literal(f"({rest}"), _Tid()))
        # By its index first: PostgreSQL reads no index for the comparison of rows.
        found = found.where(table.c.sent_at >= after.sent_at, tuple_(*order) > tuple_(*here))
    return [_signal(spec, row) for row in connection.execute(found.order_by(*order).limit(limit))]


class _Tid(UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "tid"


def count_sent(connection: Connection, spec: SignalSpec, chosen: SentFilter) -> int:
    """How many of these were sent."""
    table = SENT.of(spec)
    return connection.scalar(select(func.count()).select_from(table).where(*conditions(spec, chosen))) or 0


def row_of(connection: Connection, spec: SignalSpec, place: str) -> dict[str, str | None] | None:
    """The columns of a signal that was sent, as texts; None when it is not there any more."""
    table = SENT.of(spec)
    found: dict[str, str | None] | None = connection.scalar(select(table.c.row).where(at_places([place])))
    return found


def conditions(spec: SignalSpec, chosen: SentFilter) -> list[ColumnElement[bool]]:
    """The conditions that a row of the history is meant."""
    table = SENT.of(spec)
    found: list[ColumnElement[bool]] = [table.c.table_name == spec.table.fullname]
    if chosen.key is not None:
        found.append(table.c.key == chosen.key)
    if chosen.since is not None:
        found.append(table.c.sent_at >= chosen.since)
    if chosen.until is not None:
        found.append(table.c.sent_at < chosen.until)
    if chosen.message_id is not None:
        # The ids of further messages end in a number, as those of RabbitMQSignal do.
        first = chosen.message_id.partition("#")[0]
        of_others = sql_cast(table.c.more_messages, Text).contains(chosen.message_id, autoescape=True)
        found.append(table.c.message_id.in_({chosen.message_id, first}))
        found.append(or_(table.c.message_id == chosen.message_id, of_others))
    if chosen.where is not None:
        found.append(cast("ColumnElement[bool]", literal_column(f"({chosen.where})")))
    return found


def at_places(places: Sequence[str]) -> ColumnElement[bool]:
    """The condition that a row of the history is one of these. They are looked up by their places."""
    ids = ",".join(f'"{one[one.index("(") :]}"' for one in places)
    whole = ",".join(f'"{one}"' for one in places)
    condition = text(
        "(ctid = ANY (CAST(:signalbus_ids AS tid[]))"
        " AND concat(tableoid, ctid) = ANY (CAST(:signalbus_places AS text[])))"
    ).bindparams(
        bindparam("signalbus_ids", f"{{{ids}}}", Text, unique=True),
        bindparam("signalbus_places", f"{{{whole}}}", Text, unique=True),
    )
    return cast("ColumnElement[bool]", condition)


def _signal(spec: SignalSpec, row: Any) -> SentSignal:
    place, key, sent_at, written_at, keep_until, message_id, exchange, routing_key, more = row
    is_known = (message_id, exchange, routing_key) != (None, None, None)
    messages = [SentMessage(message_id, exchange, routing_key)] if is_known else []
    messages += [SentMessage(**one) for one in more or ()]
    return SentSignal(spec.name, place, key, sent_at, written_at, keep_until, tuple(messages))
