"""Statements that are the same for every burst of a model, made once: making one takes longer than the driver needs.

They differ from burst to burst in nothing but the values of their parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from .contract import SignalSpec

S = TypeVar("S")

#: By model and by what else tells statements apart. They are forgotten with their model.
_kept: WeakKeyDictionary[SignalSpec, dict[Hashable, Any]] = WeakKeyDictionary()


def prepared(spec: SignalSpec, shape: Hashable, make: Callable[[], S]) -> S:
    """The statement of a model with this shape; made when it is asked for first.

    :param shape: everything that the text of the statement depends on, but the model.
    """
    kept = _kept.setdefault(spec, {})
    if shape not in kept:
        kept[shape] = make()
    statement: S = kept[shape]
    return statement
