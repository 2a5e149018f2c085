"""The types of options that only a relay has: names, addresses, tables.

Each function returns a valid value, or its ValueError says what is expected.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from signalbus_core import SetupError
from signalbus_core.lowlevel import escaping_advice
from signalbus_core.rabbitmq import BrokerLocation

from ..application.outbox_tables.file import read_file
from ..application.outbox_tables.names import TableName, split_list, table_name
from ..application.outbox_tables.row_choice import done as of_done
from ..application.outbox_tables.rules import NO_FIELD, Assignment, TableRules, assignment, column_name
from ..option_types import read_text
from ..servers.database_url import DRIVER, with_driver

#: The shortest operator token; a shorter one could be guessed.
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class HttpAddress:
    """The address on which the HTTP server listens. Port 0 means any free port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether it can be reached only from this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_texts(value: Any) -> tuple[str, ...]:
    parts = re.split(r"[,\s]+", value) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple, set)) or not all(isinstance(part, str) for part in parts):
        raise ValueError("names, separated by commas, are expected")
    return tuple(part for part in parts if part)


def read_http(value: Any) -> HttpAddress | None:
    text = read_text(value)
    if text.lower() == "off":
        return None
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError("HOST:PORT (port 0 for a free one) or off is expected")
    return HttpAddress(host, int(port))


def read_token(value: Any) -> str:
    text = read_text(value)
    if len(text) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in text):
        raise ValueError(
            f"at least {SHORTEST_TOKEN} letters, digits and signs without spaces are expected; "
            "`openssl rand -hex 32` prints a good one"
        )
    return text


T = TypeVar("T")


def table_names(value: Any) -> tuple[TableName, ...]:
    """Names of tables: several texts, or one list."""
    return _each(value, table_name)


def assignments(value: Any) -> tuple[Assignment, ...]:
    """Columns and their fields: several texts, or one list."""
    return _each(value, assignment)


def columns(value: Any) -> tuple[str, ...]:
    """Names of columns: several texts, or one list."""
    return _each(value, column_name)


def marks(value: Any) -> str:
    """What marks a row as sent: assignments of SQL, or the mark that it is deleted."""
    text = any_text(value).strip()
    if text != NO_FIELD:
        of_done.assignments(text)
    return text


def tables_file(value: Any) -> tuple[TableRules, ...]:
    """The rules in the file at this path."""
    return read_file(any_text(value))


def database_url(value: Any) -> str:
    """The URL of a database, with the driver that is used."""
    text = with_driver(any_text(value).strip())
    try:
        url = make_url(text)
        is_url = url.drivername == DRIVER
        if is_url:
            # It reads hosts and ports, also those in the query.
            url.get_dialect()().create_connect_args(url)
    except (ArgumentError, ValueError):
        is_url = False
    if is_url and ("@" in (url.host or "") or re.search("@.*/", url.database or "")):
        # The password has ended at its first @; what follows would be shown as host and database.
        raise ValueError(escaping_advice(text) or "the name of its host has an @")
    if not is_url and (advice := escaping_advice(text)) is not None:
        raise ValueError(f"a URL that begins with postgresql:// is expected, and {advice}")
    if not is_url:
        raise ValueError("a URL that begins with postgresql://, and whose ports are numbers, is expected")
    return text


def broker_url(value: Any) -> str:
    """The URL of a broker."""
    url = read_text(value)
    try:
        BrokerLocation(url)
    except SetupError as error:
        text = str(error).rstrip(".")
        raise ValueError(f"{text[0].lower()}{text[1:]}") from None
    return url


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
