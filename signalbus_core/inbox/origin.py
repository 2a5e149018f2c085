"""Where a handler comes from, and from which values it was made: two that differ are two handlers.

A module may be imported twice, and a factory of applications may run twice: what they make again is the same handler.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from inspect import ismethod, unwrap
from typing import Any
from uuid import UUID

#: What equal values of these types make is equal.
_PLAIN = (str, bytes, int, float, complex, bool, type(None), date, time, timedelta, Decimal, UUID, Enum)

#: Values in values are compared to this depth.
MOST_LEVELS = 6


def place_of(handler: Callable[..., Any]) -> tuple[str, str, int]:
    """The file, the name and the line of a handler."""
    code = getattr(unwrap(handler), "__code__", None)
    module = getattr(handler, "__module__", type(handler).__module__)
    # A module may be imported again, also under another name (__main__).
    return (
        code.co_filename if code else module,
        getattr(handler, "__qualname__", type(handler).__qualname__),
        code.co_firstlineno if code else 0,
    )


def made_from(handler: Callable[..., Any]) -> str:
    """A digest of the values that a handler was made from: those that its function encloses, defaults, its object.

    Of other objects than plain values, functions and containers (an application, a session) only the type counts: the
    factory of an application makes them anew.
    """
    return hashlib.sha256(repr(_parts(handler, MOST_LEVELS, is_handler=True)).encode()).hexdigest()


def _parts(value: Any, levels: int, *, is_handler: bool = False) -> Any:
    if isinstance(value, _PLAIN):
        return (type(value).__qualname__, repr(value))
    if isinstance(value, type) or not levels:
        return getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, Mapping):
        return [(repr(_parts(key, levels - 1)), _parts(one, levels - 1)) for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [_parts(one, levels - 1) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(_parts(one, levels - 1)) for one in value)
    if isinstance(value, partial):
        return [_parts(part, levels - 1) for part in (value.func, value.args, value.keywords)]
    if ismethod(value):
        return [_parts(value.__func__, levels - 1), _object_parts(value.__self__, levels - 1)]
    if hasattr(value, "__code__"):
        return _function_parts(value, levels - 1)
    return _object_parts(value, levels - 1) if is_handler else type(value).__qualname__


def _function_parts(function: Any, levels: int) -> list[Any]:
    code = function.__code__
    enclosed = [_parts(_content(cell), levels) for cell in function.__closure__ or ()]
    given = [_parts(one, levels) for one in (function.__defaults__, function.__kwdefaults__)]
    return [code.co_filename, function.__qualname__, code.co_firstlineno, enclosed, given]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        # A name that is bound later, as that of a function that calls itself.
        return None


def _object_parts(value: Any, levels: int) -> Any:
    """The plain values of an object whose method, or which itself, is the handler."""
    if isinstance(value, type):
        return value.__qualname__
    return [type(value).__qualname__, _parts(dict(getattr(value, "__dict__", {})), levels)]
