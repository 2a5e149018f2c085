"""Names of tables and columns on the command line. Invariant: they are exact, without folding to lower case.

A dot separates schema, table and column. A part with a dot or a quote is put in double quotes, a quote in it doubled,
as in SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = r'"(?:[^"]|"")+"|[^".]+'
_NAME = re.compile(rf"(?:{_PART})(?:\.(?:{_PART}))*")

#: In a list, commas and white space separate names; in quotes they are part of a name.
_LISTED = re.compile(r'(?:"(?:[^"]|"")*"|[^",\s])+')


@dataclass(frozen=True, order=True)
class TableName:
    """The name of a table.

    :param schema: None for the first schema of the search path that has such a table.
    """

    schema: str | None
    name: str

    def __str__(self) -> str:
        return join_name(self.name) if self.schema is None else join_name(self.schema, self.name)

    @property
    def fullname(self) -> str:
        """The name in SQLAlchemy and in ``signalbus_parked``."""
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


def split_name(text: str) -> list[str]:
    """The parts of a name.

    :raises ValueError: it is no name.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name; a part with a dot or a quote stands in double quotes")
    parts = re.findall(_PART, text)
    return [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts]


def join_name(*parts: str) -> str:
    """The name with these parts."""
    return ".".join('"{}"'.format(part.replace('"', '""')) if re.search(r'[".]', part) else part for part in parts)


def split_list(text: str) -> list[str]:
    """The names, or rules about names, in a list of them."""
    return _LISTED.findall(text)


def table_name(text: str) -> TableName:
    """The name of a table, with or without its schema.

    :raises ValueError: it is none.
    """
    parts = split_name(text)
    if len(parts) > 2:
        raise ValueError(f"{text!r} has {len(parts)} parts; TABLE or SCHEMA.TABLE is expected")
    return TableName(parts[0] if len(parts) == 2 else None, parts[-1])
