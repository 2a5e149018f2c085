"""The column types from which each field of a message can be read.

Types have their names in PostgreSQL's catalog; a domain counts as its base type.
"""

from __future__ import annotations

from signalbus_core.lowlevel import SEND_AFTER

#: The prefix of the name of a header.
HEADER_PREFIX = "headers."

STRINGS = frozenset({"text", "varchar", "bpchar", "citext", "name"})
INTEGERS = frozenset({"int2", "int4", "int8"})
JSON = frozenset({"json", "jsonb"})
BYTES = frozenset({"bytea"})
TIMES = frozenset({"timestamptz", "timestamp"})

#: The types of a time before which a row is not sent. Those without a time zone are in UTC.
MOMENTS = TIMES | {"date"}

#: The types whose values have an unambiguous text.
TEXTUAL = STRINGS | INTEGERS | {"uuid", "enum"}

#: The types that each field accepts.
FIELD_TYPES: dict[str, frozenset[str]] = {
    "exchange": TEXTUAL,
    "routing_key": TEXTUAL,
    "body": BYTES | STRINGS | JSON,
    "body_text": STRINGS,
    "body_json": JSON,
    "headers": JSON | STRINGS,
    "message_type": TEXTUAL,
    "content_type": TEXTUAL,
    "content_encoding": TEXTUAL,
    "correlation_id": TEXTUAL,
    "reply_to": TEXTUAL,
    "message_id": TEXTUAL,
    "signalbus_id": frozenset({"uuid"}),
    "user_id": TEXTUAL,
    "app_id": TEXTUAL,
    "expiration": INTEGERS | STRINGS,
    "priority": INTEGERS,
    "delivery_mode": INTEGERS,
    "timestamp": TIMES,
    "created_at": TIMES,
    SEND_AFTER: MOMENTS,
}

#: Shorter names of fields.
ALIASES = {"send_after": SEND_AFTER}

#: The types that a single header accepts.
HEADER_TYPES = TEXTUAL | {"bool"}

#: The fields that hold the body.
BODIES = ("body", "body_text", "body_json")

#: The types of primary-key columns.
KEY_TYPES = INTEGERS | BYTES | TIMES | {"text", "varchar", "bpchar", "uuid", "date", "numeric", "bool"}

_SHOWN = {"bpchar": "char", "int2": "smallint", "int4": "integer", "int8": "bigint", "bool": "boolean"}


def is_field(name: str) -> bool:
    """Whether there is such a field: one of :data:`FIELD_TYPES`, or a single header."""
    return name in FIELD_TYPES or (name.startswith(HEADER_PREFIX) and name != HEADER_PREFIX)


def types_of(field: str) -> frozenset[str]:
    """The types that a field accepts."""
    return FIELD_TYPES.get(field, HEADER_TYPES)


def body_field(type_name: str) -> str:
    """The field for a body of this type."""
    return "body_json" if type_name in JSON else "body" if type_name in BYTES else "body_text"


def shown(types: frozenset[str]) -> str:
    """Types, in words for people."""
    names = sorted(_SHOWN.get(name, name) for name in types - {"name"})
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
