"""Finds what was sent, newest first. The rows, which are payloads, are read only where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast

from sqlalchemy import ARRAY, BigInteger, Text, bindparam, func, literal, literal_column, or_, select, text, tuple_
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
    :param position: of an ordered model, where it is asked for: its place among those of its key.
    :param order_key: this key, as the texts of its columns; None where it has none.
    """

    model: str
    place: str
    key: str
    sent_at: datetime
    written_at: datetime | None
    keep_until: date
    messages: tuple[SentMessage, ...]
    position: int = 0
    order_key: tuple[str, ...] | None = None


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
    """What was sent of a model, in the order in which it was sent; within a burst, of an ordered model by position.

    :param after: begin behind this one.
    """
    table, position = SENT.of(spec), _position(spec)
    columns = [PLACE, *(table.c[name] for name in _COLUMNS), position.label("signalbus_position")]
    columns += [table.c.row[column.name].as_string() for column in (spec.order.by if spec.order else ())]
    found = select(*columns).where(*conditions(spec, chosen))
    order: tuple[Any, ...] = (table.c.sent_at, position, literal_column("tableoid"), literal_column("ctid"))
    if after is not None:
        oid, _, rest = after.place.partition("(")
        place = (sql_cast(literal(oid), OID), sql_cast(literal(f"({rest}"), _Tid()))
        here = (literal(after.sent_at), sql_cast(literal(after.position), BigInteger), *place)
        # By its index first: PostgreSQL reads no index for the comparison of rows.
        found = found.where(table.c.sent_at >= after.sent_at, tuple_(*order) > tuple_(*here))
    rows = connection.execute(found.order_by(*order).limit(limit))
    width = 1 + len(_COLUMNS)
    return [_signal(spec, row[:width], row[width:]) for row in rows]


def _position(spec: SignalSpec) -> ColumnElement[int]:
    """The position of a signal among those of its key; the same for all where the model has no order."""
    if spec.order is None:
        return literal_column("CAST(0 AS bigint)", BigInteger)
    of_row = SENT.of(spec).c.row[spec.order.position.name].as_string()
    return func.coalesce(sql_cast(of_row, BigInteger), 0)


class _Tid(UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "tid"


def count_sent(connection: Connection, spec: SignalSpec, chosen: SentFilter) -> int:
    """How many of these were sent."""
    table = SENT.of(spec)
    return connection.scalar(select(func.count()).select_from(table).where(*conditions(spec, chosen))) or 0


def row_of(connection: Connection, spec: SignalSpec, one: SentSignal) -> dict[str, str | None] | None:
    """The columns of a signal that was sent, as texts; None when it is not there any more."""
    found: dict[str, str | None] | None = connection.scalar(select(SENT.of(spec).c.row).where(at_places([one])))
    return found


def names_of_rows(connection: Connection, spec: SignalSpec) -> list[tuple[frozenset[str], int]]:
    """The names of the columns that the rows of a model were kept with, and how many rows have these."""
    names = literal_column('ARRAY(SELECT json_object_keys("row"))', ARRAY(Text)).label("signalbus_names")
    counting = select(names, func.count()).select_from(SENT.of(spec)).where(*conditions(spec, EVERY_SENT))
    found = counting.group_by(literal_column("signalbus_names"))
    return [(frozenset(row[0]), row[1]) for row in connection.execute(found)]


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


def at_places(signals: Sequence[SentSignal]) -> ColumnElement[bool]:
    """The condition that a row of the history is one of these. They are looked up by their places."""
    places = [one.place for one in signals]
    ids = ",".join(f'"{one[one.index("(") :]}"' for one in places)
    whole = ",".join(f'"{one}"' for one in places)
    days = ",".join(sorted({one.keep_until.isoformat() for one in signals}))
    # The days leave only the partitions to be read in which they are.
    condition = text(
        "(keep_until = ANY (CAST(:signalbus_days AS date[])) AND ctid = ANY (CAST(:signalbus_ids AS tid[]))"
        " AND concat(tableoid, ctid) = ANY (CAST(:signalbus_places AS text[])))"
    ).bindparams(
        bindparam("signalbus_days", f"{{{days}}}", Text, unique=True),
        bindparam("signalbus_ids", f"{{{ids}}}", Text, unique=True),
        bindparam("signalbus_places", f"{{{whole}}}", Text, unique=True),
    )
    return cast("ColumnElement[bool]", condition)


def _signal(spec: SignalSpec, row: Any, order: Sequence[Any] = ()) -> SentSignal:
    place, key, sent_at, written_at, keep_until, message_id, exchange, routing_key, more = row
    is_known = (message_id, exchange, routing_key) != (None, None, None)
    messages = [SentMessage(message_id, exchange, routing_key)] if is_known else []
    messages += [SentMessage(**one) for one in more or ()]
    position, *parts = order or (0,)
    order_key = tuple(parts) if parts and None not in parts else None
    return SentSignal(spec.name, place, key, sent_at, written_at, keep_until, tuple(messages), position, order_key)
