"""The values of the options about tables. Each raises ``ValueError`` with what is wrong, all of it in one text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from .file import read_file
from .names import TableName, split_list, table_name
from .rules import Assignment, TableRules, assignment, column_name

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
    """What a file says, given its path."""
    return read_file(any_text(value))


def database_url(value: Any) -> str:
    """The URL of a database, with the driver that is used."""
    text = any_text(value).strip()
    for scheme in ("postgres://", "postgresql://"):
        if text.startswith(scheme):
            # SQLAlchemy 2.1 takes the one for psycopg 3, and does not know the other.
            text = f"{DRIVER}://{text.removeprefix(scheme)}"
    try:
        is_url = make_url(text).drivername == DRIVER
    except (ArgumentError, ValueError):
        is_url = False
    if not is_url:
        raise ValueError("a URL that begins with postgresql:// is expected")
    return text


def any_text(value: Any) -> str:
    """A text, perhaps an empty one."""
    if isinstance(value, str):
        return value
    raise ValueError("a text is expected")


def _each(value: Any, read: Callable[[str], T]) -> tuple[T, ...]:
    found: list[T] = []
    problems: list[str] = []
    for part in split_list(value) if isinstance(value, str) else value:
        try:
            found.append(read(part))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(found)
