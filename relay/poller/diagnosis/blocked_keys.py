"""Which keys of ordered models failed signals hold back, by name. It queries only where some were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy.engine import Connection

from signalbus_core.lowlevel import BlockedKey, SignalSpec, blocked_keys

from ..joint_query import JointQuery

#: So many keys of a model are named; the others are counted.
MOST_NAMED = 5


def blocked_thing(model: str) -> str:
    """How incidents call the names of the keys of a model that are held back."""
    return f"{model}, the names of its blocked keys"


def read_blocked_keys(
    joint_query: JointQuery, connecting: Callable[[], AbstractContextManager[Connection]], specs: Sequence[SignalSpec]
) -> dict[str, list[BlockedKey]]:
    """The first keys of these models that are held back; without those of which that cannot be read now."""

    def read(spec: SignalSpec) -> list[BlockedKey]:
        with connecting() as connection:
            return blocked_keys(connection, spec, MOST_NAMED)

    return joint_query.one_by_one(specs, blocked_thing, read)
