"""Tells by name which keys of ordered models failed signals hold back. It queries only where some were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy.engine import Connection

from signalbus_core.lowlevel import Measurement, SignalSpec, blocked_keys

from ...telemetry.events import Events

#: So many keys of a model are named; the others are counted.
MOST_NAMED = 5


def name_blocked_keys(
    begin: Callable[[], AbstractContextManager[Connection]],
    specs: Sequence[SignalSpec],
    measured: Sequence[tuple[str, Measurement]],
    events: Events,
) -> None:
    """Tell which keys are held back.

    :param begin: begins a transaction of the database.
    :param specs: the models of the database.
    """
    blocked = {name for name, one in measured if one.blocked}
    held_back = [spec for spec in specs if spec.name in blocked]
    if not held_back:
        return
    with begin() as connection:
        for spec in held_back:
            events.blocked_named(spec.name, tuple(blocked_keys(connection, spec, MOST_NAMED)))
