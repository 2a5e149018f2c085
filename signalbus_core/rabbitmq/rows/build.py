"""Builds the messages of signals and sends none, as the description of an application and a rehearsal need them.

Invariant: a signal gives the messages that a burst would send, or the error with which it would fail there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import getattr_static
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from ...burst.lock import loadable
from ...failures import error_text, is_of_schema, raise_if_stop
from ...model.contract import SignalSpec
from ...sql.keys import Key, has_loadable_key
from ...sql.rows import row_id
from ..amqp.encoder import MessageMaker
from ..amqp.frames import encode
from ..amqp.message import InvalidMessageError, Message
from ..signal import RabbitMQSignal, SignalMessages
from .row_messages import RowMessages, RowPlan

#: The largest frame that RabbitMQ negotiates by default.
FRAME_MAX = 131_072

#: Ids of rows are read in portions of so many.
PORTION = 1000


def sends_itself(model: type[Any]) -> bool:
    """Whether a class sends by code of its own, which only sending runs: nothing can be told of its messages."""
    return not issubclass(model, RabbitMQSignal) or any(
        getattr_static(model, method) is not getattr_static(RabbitMQSignal, method)
        for method in ("send_signalbus_message", "send_signalbus_messages")
    )


def pending_rows(session: Session, spec: SignalSpec) -> Iterator[Any]:
    """The rows of all signals of a model, due or not, in the order of their keys, for :func:`build_messages`.

    They are read as needed, from one snapshot.
    """
    dialect = session.get_bind(spec.mapper).dialect
    has_ids = dialect.name == "postgresql"
    columns = [row_id(dialect)] if has_ids else list(spec.primary_key)
    conditions = (*spec.is_signal, *has_loadable_key(spec, dialect))
    statement = select(*columns).select_from(spec.model).where(*conditions).order_by(*spec.primary_key)
    rows = session.execute(statement, execution_options={"yield_per": PORTION}, bind_arguments={"mapper": spec.mapper})
    for row in rows:
        yield row[0] if has_ids else tuple(row)


@dataclass(frozen=True)
class BuiltSignal:
    """What became of one signal.

    :param model: its class.
    :param key: its primary key; empty when its row cannot be loaded.
    :param messages: what a burst would send of it.
    :param problem: why it would fail, without its values; None when it would not.
    """

    model: type[Any]
    key: Key
    messages: tuple[Message, ...] = ()
    problem: str | None = None


def build_messages(
    session: Session, connection: Connection, spec: SignalSpec, rows: Sequence[Any]
) -> Iterator[BuiltSignal]:
    """Build the messages of signals. A row that has left its table gives nothing.

    What the code of a signal raises is its problem; a database error may leave the transaction broken for the others.

    :param rows: of :func:`pending_rows`.
    :raises sqlalchemy.exc.SQLAlchemyError: the database failed, and no single row is the cause.
    """
    for _, found, error in loadable(session, connection, spec, rows):
        if error is not None:
            if is_of_schema(error):
                # A column or a table is missing: no row is the cause.
                raise error
            yield BuiltSignal(spec.model, (), problem=f"its row cannot be loaded ({type(error).__name__})")
            continue
        for signal, row in found:
            model = spec.model if spec.is_row(signal) else type(signal)
            yield _built(model, row.key, _maker(spec, connection, signal), signal)


def build_restored(signal: Any, key: Key) -> BuiltSignal:
    """Build the messages of a signal that was sent, restored as an instance of its class.

    :param key: of the signal, for people.
    """
    return _built(type(signal), key, SignalMessages(), signal)


def _maker(spec: SignalSpec, connection: Connection, signal: Any) -> MessageMaker[Any]:
    return RowMessages(cast(RowPlan, spec.row_sender), connection) if spec.is_row(signal) else SignalMessages()


def _built(model: type[Any], key: Key, maker: MessageMaker[Any], signal: Any) -> BuiltSignal:
    try:
        messages = tuple(maker(signal))
        for message in messages:
            # Which login the broker wants is not known here; it takes no other user_id.
            login = getattr(message.properties, "user_id", None) or ""
            encode(message, channel_number=1, frame_max=FRAME_MAX, login=login)
    except BaseException as error:  # noqa: BLE001 - whatever it raises is the fault of this signal
        raise_if_stop(error)
        reason = str(error) if isinstance(error, InvalidMessageError) else error_text(error, [signal])
        return BuiltSignal(model, key, problem=reason)
    return BuiltSignal(model, key, messages)
