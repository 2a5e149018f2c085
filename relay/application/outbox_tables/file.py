"""Reads the file with rules for tables, in TOML or JSON. Invariant: nothing is ignored; an unknown key is an error.

::

    [tables.orders_outbox]
    exchange = "orders"
    map = { payload = "body" }
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...option_types import read_count
from .layouts import LAYOUTS
from .names import table_name
from .row_choice.done import assignments
from .row_choice.where import condition
from .rules import NO_FIELD, TableRules, field_name

#: The keys of a table.
KEYS = ("preset", "exchange", "routing_key", "map", "where", "not_before", "all_rows", "done", "order_by", "keep_days")

#: Those of them whose value is a text.
TEXTS = ("preset", "exchange", "routing_key", "done")


def read_file(path: str) -> tuple[TableRules, ...]:
    """Read the rules for tables from a file.

    :raises ValueError: it cannot be read, or is invalid; the text has all problems.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not in UTF-8") from None
    content = _parsed(path, text)
    tables = content.get("tables") if isinstance(content, Mapping) else None
    if not isinstance(tables, Mapping) or not tables or len(content) > 1:
        raise ValueError(f"{path}: tables, and nothing else, are expected, each as [tables.NAME]")
    problems: list[str] = []
    rules = [_rules(str(name), given, problems) for name, given in tables.items()]
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}")
    return tuple(one for one in rules if one is not None)


def _parsed(path: str, text: str) -> Any:
    parser = json if path.endswith(".json") else _toml(path)
    try:
        return parser.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is no {'JSON' if parser is json else 'TOML'}: {error}") from None


def _toml(path: str) -> Any:
    # tomllib is part of Python since 3.11; tomli may be installed before that.
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ValueError(f"{path}: TOML needs Python 3.11, or the package tomli; a file that ends in .json needs neither")


def _rules(text: str, given: object, problems: list[str]) -> TableRules | None:
    before = len(problems)
    try:
        name = table_name(text)
    except ValueError as error:
        problems.append(str(error))
        return None
    if not isinstance(given, Mapping):
        problems.append(f"{text}: a table of settings is expected")
        return None
    problems += [f"{text}: {key!r} is not known; known are {', '.join(KEYS)}" for key in given if key not in KEYS]
    texts = {key: given.get(key) for key in TEXTS}
    problems += [
        f"{text}: {key}: a text is expected"
        for key, value in texts.items()
        if value is not None and not isinstance(value, str)
    ]
    if isinstance(texts["preset"], str) and texts["preset"] not in LAYOUTS:
        problems.append(f"{text}: preset: one of {', '.join(LAYOUTS)} is expected, not {texts['preset']!r}")
    try:
        if isinstance(texts["done"], str) and texts["done"] != NO_FIELD:
            assignments(texts["done"])
    except ValueError as error:
        problems.append(f"{text}: done: {error}")
    keep_days = given.get("keep_days")
    try:
        keep_days = None if keep_days is None else read_count(1, 36_500)(keep_days)
    except ValueError as error:
        problems.append(f"{text}: keep_days: {error}, not {keep_days!r}")
    fields = _fields(text, given.get("map", {}), problems)
    rows: dict[str, Any] = {
        **texts,
        **_rows(text, given, problems),
        "order_by": _columns(text, given, "order_by", problems),
        "keep_days": keep_days,
    }
    return TableRules(name, fields, **rows) if len(problems) == before else None


def _rows(text: str, given: Mapping[Any, object], problems: list[str]) -> dict[str, Any]:
    """The keys that choose rows."""
    where, all_rows = given.get("where"), given.get("all_rows")
    columns = _columns(text, given, "not_before", problems)
    if all_rows is not None and not isinstance(all_rows, bool):
        problems.append(f"{text}: all_rows: true or false is expected")
    if all_rows and where is not None:
        problems.append(f"{text}: where and all_rows exclude each other")
    try:
        where = None if where is None else condition(where)
    except ValueError as error:
        problems.append(f"{text}: where: {error}")
    return {"where": where, "not_before": columns, "all_rows": all_rows}


def _columns(text: str, given: Mapping[Any, object], key: str, problems: list[str]) -> tuple[str, ...]:
    columns = given.get(key)
    columns = [] if columns is None else [columns] if isinstance(columns, str) else columns
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        problems.append(f"{text}: {key}: a column, or a list of columns, is expected")
        return ()
    return tuple(columns)


def _fields(text: str, given: object, problems: list[str]) -> dict[str, str]:
    if not isinstance(given, Mapping) or not all(isinstance(field, str) for field in given.values()):
        problems.append(f"{text}: map: columns and their fields are expected")
        return {}
    fields: dict[str, str] = {}
    for column, field in given.items():
        try:
            fields[str(column)] = field_name(field)
        except ValueError as error:
            problems.append(f"{text}: map: {error}")
    return fields
