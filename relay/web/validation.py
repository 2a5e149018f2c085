"""Reads the fields of queries, forms and JSON bodies, and validates them.

Invariant: handlers get no unknown field, no field twice, and only texts that a database takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from flask import request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

#: The largest body of a request, and the largest number of fields of a form or a query.
MOST_BODY_BYTES = 64 * 1024
MOST_FIELDS = 20

#: The largest number of characters of each field.
LONGEST = {
    "model": 200,
    "key": 2000,
    "message_id": 255,
    "group": 16,
    "section": 100,
    "number": 7,
    "reason": 500,
    "token": 1000,
}

#: The largest number of signals that a form may be about.
MOST_FAILED = 1_000_000

#: The largest number of signals in one response, and the largest offset.
MOST_LISTED = 200
LAST_OFFSET = 50_000


def query(*names: str) -> dict[str, str]:
    """The fields of the query; these are allowed."""
    return _only(_pairs(request.query_string, "query"), names)


def form(*names: str) -> dict[str, str]:
    """The fields of the form that are not empty; these are allowed."""
    filled = _pairs(_body("application/x-www-form-urlencoded"), "form")
    return _only({name: value for name, value in filled.items() if value}, names)


def json_body(*names: str) -> dict[str, Any]:
    """The fields of the JSON object; these are allowed."""
    body = _body("application/json")
    try:
        content = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(content, dict):
        raise BadRequest("The body must be a JSON object.")
    return _only(content, names)


def text(fields: Mapping[str, Any], name: str) -> str:
    """A required text."""
    value = optional_text(fields, name)
    if value is None:
        raise BadRequest(f"The field {name!r} is missing.")
    return value


def optional_text(fields: Mapping[str, Any], name: str) -> str | None:
    """A text; None when it is not given."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST[name]:
        raise BadRequest(f"The field {name!r} must be a text of 1 to {LONGEST[name]} characters.")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRequest(f"The field {name!r} has characters that no database takes.")
    return value


def number(fields: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """A whole number of a query or a form."""
    given = str(fields.get(name, default))
    if not (given.isascii() and given.isdigit() and len(given) < 10 and least <= int(given) <= most):
        raise BadRequest(f"The field {name!r} must be a whole number from {least} to {most}.")
    return int(given)


def whole_number(fields: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """A whole number of JSON."""
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(f"The field {name!r} must be a whole number from {least} to {most}.")
    return value


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """A value of JSON that is true or false."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"The field {name!r} must be true or false.")
    return value


def _body(content_type: str) -> bytes:
    if request.mimetype != content_type:
        raise UnsupportedMediaType(f"The body must be {content_type}.")
    return request.get_data()


def _pairs(encoded: bytes, what: str) -> dict[str, str]:
    """The fields of a query string. Flask replaces what is not UTF-8, and takes the first of two fields of one name."""
    try:
        pairs = parse_qsl(encoded.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise BadRequest(f"The {what} cannot be read.") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise BadRequest(f"The {what} names a field twice.")
    return fields


def _only(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Refuse unknown fields: the client expects an effect of them."""
    if unknown := sorted(set(fields) - set(names)):
        raise BadRequest(f"Unknown field: {unknown[0]!r}. Known are: {', '.join(names)}.")
    return fields
