"""The messages of rows, made without instances: what is compiled once for a model, and what messages have in common.

Invariant: a row gives the same bytes as an instance; one with an unusual value takes the way of the instances, which
finds what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from inspect import getattr_static
from operator import itemgetter
from typing import Any, cast

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import ColumnElement

from ...failures import error_text, raise_if_stop
from ...model.schedule import SEND_AFTER, has_zone, schedule_of
from ...model.sending.sent_messages import SentMessage
from ...schema.send_after import readable_time
from ...schema.signal_id import SIGNAL_ID, database_identity, signal_id_text
from ...tracing.context import StoredContext, TracedSignal, parsed_context
from ..amqp.encoder import PLAIN, Common, Encoder, MessageMaker, keep, shared_of
from ..amqp.frames import EncodedMessage
from ..amqp.message import InvalidMessageError, Message
from ..message_id import Identity, as_moment, identity_of
from ..signal import completed, publisher_of_app, seconds_of
from .outbox_row import BODIES, headers_of, is_of_headers, message_from_values

#: The fields that seldom differ between rows.
_IN_COMMON = (
    "exchange",
    "routing_key",
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "reply_to",
    "expiration",
    "message_type",
    "user_id",
    "app_id",
)

#: Below this many seconds since 1970, a time is none of those that the driver returns for infinity.
_FINITE_SECONDS = 253_000_000_000


def has_attribute(model: type[Any], name: str) -> bool:
    return getattr_static(model, name, None) is not None


def trace_of(model: type[Any]) -> tuple[str, ...]:
    return ("trace_context",) if issubclass(model, TracedSignal) else ()


class RowPlan:
    """Which column of a model's rows is what. It sends them.

    :param fields: the attribute of each field that the model has.
    :param address: the exchange and routing key of messages that set none.
    """

    def __init__(self, model: type[Any], fields: Mapping[str, str], address: tuple[str | None, str | None]) -> None:
        mapper: Mapper[Any] = model.__mapper__
        self.identity: Identity = identity_of(cast(Any, model))
        is_traced = any(has_attribute(model, name) for name in trace_of(model))
        keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        others = [self.identity.written_at] if self.identity.written_at is not None else []
        others += ["trace_context"] if is_traced else []
        self.columns: dict[str, ColumnElement[Any]] = {
            name: mapper.column_attrs[name].columns[0] for name in (*keys, *fields.values(), *others)
        }
        if self.identity.has_own:
            self.columns[SIGNAL_ID] = signal_id_text(mapper)
        schedule = schedule_of(mapper, model.__name__)
        is_timed = schedule is not None and len(schedule.columns) == 1 and has_zone(schedule.columns[0])
        if schedule is not None and is_timed:
            self.columns[SEND_AFTER] = readable_time(schedule.columns[0])
        place_of = {name: place for place, name in enumerate(self.columns)}
        self.written_at = None if self.identity.written_at is None else place_of[self.identity.written_at]
        self.due_at = place_of[SEND_AFTER] if is_timed else None
        self.key_size = len(keys)
        self.own_id = place_of[SIGNAL_ID] if self.identity.has_own else None
        self.trace = place_of["trace_context"] if is_traced else None
        #: The place of each field in a row.
        self.places = {field: place_of[attribute] for field, attribute in fields.items()}
        #: What messages take that set nothing: exchange, routing key, type.
        self.usual = (*address, model.__name__)
        #: What rows with the same shared values have in common, by encoder.
        self.known: dict[Encoder, dict[Any, Common]] = {}

    def send(self, rows: Sequence[Any], connection: Connection) -> None:
        publisher_of_app().publish_signals(rows, RowMessages(self, connection))


class RowMessages(MessageMaker[Sequence[Any]]):
    """The messages of the rows of one burst. A draft is the row itself.

    :param connection: to the database of the rows.
    """

    def __init__(self, plan: RowPlan, connection: Connection) -> None:
        super().__init__(self.message)
        self._plan = plan
        self._connection = connection

    def drafts(self, signal: Sequence[Any]) -> list[Any]:
        return [signal]

    def message(self, draft: Any) -> Message:
        if isinstance(draft, Message):
            return draft
        try:
            message = message_from_values({field: draft[place] for field, place in self._plan.places.items()})
            return completed(
                message, self._plan.usual, lambda: self._id_of(draft), lambda: seconds_of(self._moment_of(draft))
            )
        except InvalidMessageError:
            raise
        except BaseException as error:
            raise_if_stop(error)
            raise InvalidMessageError(error_text(error, [draft])) from error

    def trace_context(self, signal: Sequence[Any]) -> StoredContext | None:
        return None if self._plan.trace is None else parsed_context(signal[self._plan.trace])

    def sent_message(self, draft: Any) -> SentMessage:
        if isinstance(draft, Message):
            return super().sent_message(draft)
        places, usual = self._plan.places, self._plan.usual
        own, exchange, routing_key = [
            None if place is None else draft[place]
            for place in (places.get("message_id"), places.get("exchange"), places.get("routing_key"))
        ]
        return SentMessage(
            self._id_of(draft) if own is None else own,
            usual[0] if exchange is None else exchange,
            usual[1] if routing_key is None else routing_key,
        )

    def _id_of(self, row: Sequence[Any]) -> str:
        plan = self._plan
        own = None if plan.own_id is None else row[plan.own_id]
        if own is None:
            database = database_identity(self._connection)
            own = plan.identity.made_up(database, row[: plan.key_size], self._moment_of(row))
        return plan.identity.id_of_message(str(own), 1)

    def _moment_of(self, row: Sequence[Any]) -> datetime | None:
        return None if self._plan.written_at is None else as_moment(row[self._plan.written_at])

    def encoding(self, encoder: Encoder) -> Callable[[Any], EncodedMessage]:
        usual = self._encoding_usual(encoder)

        def encode(draft: Any) -> EncodedMessage:
            try:
                encoded = usual(draft)
            except BaseException as error:  # noqa: BLE001 - what is wrong, the slow way finds out
                raise_if_stop(error)
                encoded = None
            return encoder.encode(self.message(draft)) if encoded is None else encoded

        return encode

    def _encoding_usual(self, encoder: Encoder) -> Callable[[Any], EncodedMessage | None]:
        """What encodes rows as they usually are. For others it returns None, or raises any error."""
        places, id_of, moment_of, assemble = self._plan.places, self._id_of, self._moment_of, encoder.assemble
        known = self._plan.known.setdefault(encoder, {})
        in_common = [places[field] for field in _IN_COMMON if field in places]
        # Twice the first, so that it returns a tuple.
        common_of = itemgetter(in_common[0], *in_common) if in_common else lambda _: ()
        bodies = [places[field] for field in BODIES if field in places]
        headers_in = {field: place for field, place in places.items() if is_of_headers(field)}
        correlation_id, message_id = places.get("correlation_id"), places.get("message_id")
        times = [places[field] for field in ("timestamp", "created_at") if field in places]

        def encode(row: Any) -> EncodedMessage | None:
            body, kind = None, -1
            for place in bodies:
                if row[place] is not None:
                    if body is not None:
                        return None
                    body, kind = row[place], place
            data = b"" if body is None else body
            if type(data) is str:
                data = data.encode()
            elif type(data) is not bytes:
                return None
            values = common_of(row)
            if not PLAIN.issuperset(map(type, values)):
                return None
            key = (kind, type(body), values)
            common = known.get(key)
            if common is None:
                message = self.message(row)
                common = encoder.common(
                    message.exchange, message.routing_key, message.mandatory, shared_of(message.properties)
                )
                if common is None:
                    return None
                keep(known, key, common)
            headers = None
            for place in headers_in.values():
                if row[place] is not None:
                    headers = headers_of({field: row[place] for field, place in headers_in.items()})
                    break
            moment = None
            for place in times:
                moment = row[place]
                if moment is not None:
                    break
            if moment is None:
                seconds: float = seconds_of(moment_of(row))
            elif type(moment) is datetime and moment.tzinfo is not None:
                seconds = moment.timestamp() // 1
                if not 0 <= seconds < _FINITE_SECONDS:
                    return None
            else:
                return None
            own = None if message_id is None else row[message_id]
            return assemble(
                common,
                data,
                headers,
                None if correlation_id is None else row[correlation_id],
                id_of(row) if own is None else own,
                int(seconds),
            )

        return encode
