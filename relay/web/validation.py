"""Validates fields of queries, forms and JSON objects: type, length, and no characters that a database refuses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

from .http import HttpError

#: The largest number of characters of each field.
LONGEST = {"model": 200, "key": 2000, "reason": 500, "token": 1000}

#: The largest number of signals in one response, and the largest offset.
MOST_LISTED = 200
LAST_OFFSET = 50_000


def only(fields: Mapping[str, Any], names: Collection[str]) -> None:
    """Refuse unknown fields: the client expects an effect of them."""
    if unknown := sorted(set(fields) - set(names)):
        raise bad(f"Unknown field: {unknown[0]!r}. Known are: {', '.join(names)}.")


def text(fields: Mapping[str, Any], name: str) -> str:
    """A required text."""
    value = optional_text(fields, name)
    if value is None:
        raise bad(f"The field {name!r} is missing.")
    return value


def optional_text(fields: Mapping[str, Any], name: str) -> str | None:
    """A text; None when it is not given."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST[name]:
        raise bad(f"The field {name!r} must be a text of 1 to {LONGEST[name]} characters.")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise bad(f"The field {name!r} has characters that no database takes.")
    return value


def number(fields: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """A whole number of a query."""
    given = str(fields.get(name, default))
    if not (given.isascii() and given.isdigit() and len(given) < 10 and least <= int(given) <= most):
        raise bad(f"The field {name!r} must be a whole number from {least} to {most}.")
    return int(given)


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """A value of JSON that is true or false."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise bad(f"The field {name!r} must be true or false.")
    return value


def bad(sentence: str) -> HttpError:
    """The request is wrong; the sentence says how."""
    return HttpError(HTTPStatus.BAD_REQUEST, sentence)
