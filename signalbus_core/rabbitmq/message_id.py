"""The id of a message: globally unique for one written row, and the same on every resend.

Consumers drop ids that they have seen, so if two signals had one id, a message would be lost. It is the column
``signalbus_id``; without it, the id is made of database, table, key and, where the model has it, the time of writing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from sqlalchemy import Table
from sqlalchemy.orm import Mapper, class_mapper, object_session
from sqlalchemy.orm.attributes import instance_state

from ..model.written_at import written_at_attribute
from ..schema.signal_id import SIGNAL_ID, database_identity, has_signal_id

#: AMQP's limit for a short string, in bytes.
LONGEST_ID = 255

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class Identity(NamedTuple):
    """What the message ids of a model are made of.

    :param has_own: whether it has the column ``signalbus_id``.
    :param table: the name of its table, escaped.
    :param written_at: the attribute with the time of writing of a row.
    """

    has_own: bool
    table: str
    written_at: str | None

    def made_up(self, database: str, key: Sequence[Any], moment: datetime | None) -> str:
        """The id of a signal without one of its own."""
        # Fast path: most keys are one integer.
        shown = str(key[0]) if len(key) == 1 and type(key[0]) is int else ":".join(map(_id_part, key))
        # As a number of microseconds, which depends neither on the time zone nor on settings of the session.
        time = "" if moment is None else f":{(moment - _EPOCH) // _MICROSECOND}"
        return f"{database}:{self.table}:{shown}{time}" if database else f"{self.table}:{shown}{time}"

    def id_of_message(self, own: str, number: int) -> str:
        """The id of a message of the signal with this id."""
        text = own if number == 1 else f"{own}#{number}"
        if len(text) > LONGEST_ID:
            digest = hashlib.sha256(text.encode()).hexdigest()
            return f"{self.table[:100]}:sha256-{digest}"
        return text


@lru_cache(maxsize=1024)
def identity_of(model: type[Any]) -> Identity:
    """What the message ids of a model are made of. Cached, because it is needed for each signal."""
    mapper: Mapper[Any] = class_mapper(model)
    table = _quote(cast(Table, mapper.local_table).fullname)
    return Identity(has_signal_id(mapper), table, written_at_attribute(mapper, mapper.class_.__name__))


class BurstDatabase:
    """The database that the signals of one burst are in; queried when the first of them needs it for its id."""

    def __init__(self) -> None:
        self._identity: str | None = None

    def __call__(self, signal: Any) -> str:
        if self._identity is None:
            self._identity = database_of(signal)
        return self._identity


def database_of(signal: Any) -> str:
    """The database that a signal is in; empty when it belongs to no session."""
    session = object_session(signal)
    if session is None:
        return ""
    return database_identity(session.connection(bind_arguments={"mapper": instance_state(signal).manager.mapper}))


def message_id(signal: Any, number: int = 1, database: Callable[[Any], str] = database_of) -> str:
    """The id of a signal's message, the same on every resend; its further messages end in ``#2``, ``#3``.

    It is the signal's ``signalbus_id``. Without one it is made of database, table, key and time of writing, escaped so
    that no two signals share an id; an id that is too long for AMQP is replaced by a digest.

    :param number: the number of the message among those of the signal, from 1.
    :param database: returns the database of the signal.
    """
    identity = identity_of(cast(Any, type(signal)))
    own = getattr(signal, SIGNAL_ID) if identity.has_own else None
    if own is None:
        state = instance_state(signal)
        key = state.key[1] if state.key is not None else state.manager.mapper.primary_key_from_instance(signal)
        own = identity.made_up(database(signal), key, written_at(signal))
    return identity.id_of_message(str(own), number)


def written_at(signal: Any) -> datetime | None:
    """When a signal was written, where its model records it."""
    attribute = identity_of(cast(Any, type(signal))).written_at
    return None if attribute is None else as_moment(getattr(signal, attribute))


def as_moment(value: object) -> datetime | None:
    """The value as a time of writing; None where it is none: the application may have set one without a time zone."""
    return value if isinstance(value, datetime) and value.tzinfo is not None else None


def _quote(text: str) -> str:
    return quote(text, safe="-_.~ @+,=/")


def _id_part(part: object) -> str:
    if type(part) is int:
        return str(part)
    if isinstance(part, bytes):
        return part.hex()
    if isinstance(part, datetime) and part.tzinfo is not None:
        # The database returns it in the time zone of the session, which may differ at the next try.
        part = part.astimezone(timezone.utc)
    return _quote(str(part))
