"""The JSON Schema that fits some values. Invariant: no value is in it, nor a name that may be one.

A name that looks like data (an id, an address), and names that differ from object to object, are described together by
``additionalProperties``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

Schema = dict[str, Any]

#: What the names of fields look like. Others may be data.
_NAME = re.compile(r"[A-Za-z_$@][A-Za-z_0-9$.:-]{0,63}")

#: A name with more digits is an id rather than the name of a field.
MOST_DIGITS = 3

#: Deeper values are described by their type alone.
MOST_LEVELS = 12


def shape_of(values: Sequence[Any], levels: int = MOST_LEVELS) -> Schema:
    """The schema of JSON values: their types, and the fields of objects. A field that all of them have is required."""
    kinds = sorted({_kind(value) for value in values})
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    schema: Schema = {}
    if kinds:
        schema["type"] = kinds[0] if len(kinds) == 1 else kinds
    objects = [value for value in values if isinstance(value, dict)]
    items = [item for value in values if isinstance(value, (list, tuple)) for item in value]
    if objects and levels:
        schema |= _shape_of_objects(objects, levels - 1)
    if items and levels:
        schema["items"] = shape_of(items, levels - 1)
    return schema


def _shape_of_objects(objects: Sequence[dict[str, Any]], levels: int) -> Schema:
    count = Counter(name for one in objects for name in one)
    names = sorted(name for name in count if _is_name(name))
    filled = sum(map(bool, objects))
    if filled > 1 and names and max(count[name] for name in names) * 2 <= filled:
        # Nearly every object has names of its own: a map, whose keys are data.
        names = []
    schema: Schema = {}
    if names:
        schema["properties"] = {name: shape_of(_values_of(objects, [name]), levels) for name in names}
    if required := [name for name in names if count[name] == len(objects)]:
        schema["required"] = required
    if others := [name for name in count if name not in set(names)]:
        schema["additionalProperties"] = shape_of(_values_of(objects, others), levels)
    return schema


def _values_of(objects: Iterable[dict[str, Any]], names: Iterable[str]) -> list[Any]:
    wanted = list(names)
    return [one[name] for one in objects for name in wanted if name in one]


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and sum(character.isdigit() for character in name) <= MOST_DIGITS


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, (list, tuple)):
        return "array"
    return "number" if isinstance(value, (float, Decimal)) else "string"
