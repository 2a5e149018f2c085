"""Makes the message from a row of an outbox table. An invalid row raises an error and affects no other row.

The fields are the columns of ``OutboxMessage``, or of any table that a relay reads without an application.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pika.spec import BasicProperties

from ..amqp.message import Body, InvalidMessageError, Message

#: The fields that may hold the body: bytes, text, or the text of a JSON value.
BODIES = ("body", "body_text", "body_json")

#: The fields that become properties of the same name. (``message_type`` becomes ``type``.)
TEXTS = ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "user_id", "app_id")
NUMBERS = ("priority", "delivery_mode")

#: All fields of a row.
FIELDS = (
    "exchange",
    "routing_key",
    *BODIES,
    "headers",
    "message_type",
    *TEXTS,
    "expiration",
    *NUMBERS,
    "timestamp",
    "created_at",
)

#: The values that the driver returns for PostgreSQL's ``infinity`` and ``-infinity``.
INFINITE = (datetime.max.replace(tzinfo=timezone.utc), datetime.min.replace(tzinfo=timezone.utc))

#: The prefix of a field that is a single header.
HEADER_PREFIX = "headers."

#: The field for headers that are the text of a JSON object.
HEADERS_TEXT = "headers_text"


def message_from_values(values: Mapping[str, Any]) -> Message:
    """Make the message from fields of which some may be headers, beside those of :func:`message_from_row`."""
    return message_from_row({**values, "headers": headers_of(values)})


def is_of_headers(field: str) -> bool:
    """Whether a field is about headers."""
    return field in ("headers", HEADERS_TEXT) or field.startswith(HEADER_PREFIX)


def headers_of(values: Mapping[str, Any]) -> Any:
    """The headers that these fields give together.

    :raises InvalidMessageError: their text is no JSON.
    """
    text = values.get(HEADERS_TEXT)
    headers = values.get("headers") if text is None else _parsed(text)
    own = {
        field.removeprefix(HEADER_PREFIX): value
        for field, value in values.items()
        if field.startswith(HEADER_PREFIX) and value is not None
    }
    return {**(headers or {}), **own} if own and (headers is None or isinstance(headers, dict)) else headers


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        raise InvalidMessageError("headers: text that is no JSON") from None


def _refuse(_: str) -> Any:
    # Constants that Python accepts and JSON does not: NaN and the like.
    raise ValueError


def message_from_row(row: Mapping[str, Any]) -> Message:
    """Make the message of an outbox row.

    - A field that is missing or None is not set; the signal model fills it in.
    - One of ``body`` (bytes), ``body_text`` and ``body_json`` (the text of a JSON value) is used; without any, the body
      is empty. JSON gets the content type ``application/json``.
    - ``headers`` is a mapping, ``expiration`` a number of milliseconds.
    - ``timestamp`` is a time; ``created_at`` is used when it is missing.

    :raises InvalidMessageError: the row is no valid message.
    """
    body_field = _body_field(row)
    body: Body = b"" if body_field is None else row[body_field]
    properties = BasicProperties(
        headers=_headers(row.get("headers")),
        type=row.get("message_type"),
        expiration=_expiration(row.get("expiration")),
        timestamp=_seconds(row),
        **{name: row.get(name) for name in (*TEXTS, *NUMBERS)},
    )
    if properties.content_type is None and body_field == "body_json":
        properties.content_type = "application/json"
    return Message(row.get("exchange"), row.get("routing_key"), body, properties)


def _body_field(row: Mapping[str, Any]) -> str | None:
    found = [name for name in BODIES if row.get(name) is not None]
    if len(found) > 1:
        raise InvalidMessageError(f"{' and '.join(found)}: one body is expected, not {len(found)}")
    return found[0] if found else None


def _headers(headers: object) -> dict[str, Any] | None:
    if headers is None:
        return None
    if not isinstance(headers, Mapping):
        raise InvalidMessageError(f"headers: a JSON object expected, not {_json_name(headers)}")
    return dict(headers)


def _json_name(value: object) -> str:
    """The JSON name of a value's type."""
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def _expiration(value: object) -> object:
    return str(value) if type(value) is int else value


def _seconds(row: Mapping[str, Any]) -> int | None:
    """The time of the message in whole seconds; the same on every resend."""
    for name in ("timestamp", "created_at"):
        moment = row.get(name)
        if moment is None:
            continue
        if not isinstance(moment, datetime):
            raise InvalidMessageError(f"{name}: a time expected, not {type(moment).__name__}")
        if moment.replace(tzinfo=timezone.utc) in INFINITE:
            raise InvalidMessageError(f"{name}: a time that is infinite")
        # Without a time zone it is UTC, not the time zone of this process.
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
        return math.floor(moment.timestamp())
    return None
