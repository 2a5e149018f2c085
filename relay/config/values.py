"""Parses and checks single values of options: each function returns a valid value, or its error says what is valid."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ..application.outbox_tables.file import read_file
from ..application.outbox_tables.names import TableName, split_list, table_name
from ..application.outbox_tables.rules import Assignment, TableRules, assignment, column_name

#: The shortest operator token; a shorter one could be guessed.
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class HttpAddress:
    """The address on which the HTTP server listens. Port 0 means any free port."""

    host: str
    port: int


class InvalidValue(Exception):
    """A value is not allowed; the text says what is."""


def read_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue("a text is expected")
    return value.strip()


def read_texts(value: Any) -> tuple[str, ...]:
    parts = re.split(r"[,\s]+", value) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple, set)) or not all(isinstance(part, str) for part in parts):
        raise InvalidValue("names, separated by commas, are expected")
    return tuple(part for part in parts if part)


def checked_by(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        try:
            return read(value)
        except ValueError as error:
            raise InvalidValue(str(error)) from None

    return parse


def read_count(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise InvalidValue(f"a whole number from {least} to {most} is expected")
        return number

    return parse


def read_seconds(least: float, most: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        try:
            number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        # Comparisons with NaN are false.
        if number is None or not least <= number <= most:
            raise InvalidValue(f"seconds from {least:g} to {most:g} are expected")
        return number

    return parse


def read_choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        for choice in allowed:
            if isinstance(value, str) and value.lower() == choice.lower():
                return choice
        raise InvalidValue(f"one of {', '.join(allowed)} is expected")

    return parse


def read_flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        return value.lower() in ("1", "true", "yes", "on")
    raise InvalidValue("yes or no is expected")


def read_http(value: Any) -> HttpAddress | None:
    text = read_text(value)
    if text.lower() == "off":
        return None
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidValue("HOST:PORT (port 0 for a free one) or off is expected")
    return HttpAddress(host, int(port))


def read_token(value: Any) -> str:
    text = read_text(value)
    if len(text) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in text):
        raise InvalidValue(
            f"at least {SHORTEST_TOKEN} letters, digits and signs without spaces are expected; "
            "`openssl rand -hex 32` prints a good one"
        )
    return text


T = TypeVar("T")

DRIVER = "postgresql+psycopg2"


def table_names(value: Any) -> tuple[TableName, ...]:
    """Names of tables: several texts, or one list."""
    return _each(value, table_name)


def assignments(value: Any) -> tuple[Assignment, ...]:
    """Columns and their fields: several texts, or one list."""
    return _each(value, assignment)


def columns(value: Any) -> tuple[str, ...]:
    """Names of columns: several texts, or one list."""
    return _each(value, column_name)


def tables_file(value: Any) -> tuple[TableRules, ...]:
    """The rules in the file at this path."""
    return read_file(any_text(value))


def database_url(value: Any) -> str:
    """The URL of a database, with the driver that is used."""
    text = any_text(value).strip()
    for scheme in ("postgres://", "postgresql://", "postgresql+psycopg://"):
        if text.startswith(scheme):
            # SQLAlchemy 2.1 uses psycopg 3 for postgresql://, and does not accept postgres://. Both drivers read the
            # same URLs, and the variable may be that of an application which uses psycopg 3.
            text = f"{DRIVER}://{text.removeprefix(scheme)}"
    try:
        url = make_url(text)
        is_url = url.drivername == DRIVER
        if is_url:
            # It reads hosts and ports, also those in the query.
            url.get_dialect()().create_connect_args(url)
    except (ArgumentError, ValueError):
        is_url = False
    if not is_url:
        raise ValueError("a URL that begins with postgresql://, and whose ports are numbers, is expected")
    return text


def any_text(value: Any) -> str:
    """A text, possibly empty."""
    if isinstance(value, str):
        return value
    raise ValueError("a text is expected")


def _each(value: Any, read: Callable[[str], T]) -> tuple[T, ...]:
    found: list[T] = []
    problems: list[str] = []
    parts = split_list(value) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple, set)) or not all(isinstance(part, str) for part in parts):
        raise ValueError("texts, separated by commas, are expected")
    for part in parts:
        try:
            found.append(read(part))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(found)
