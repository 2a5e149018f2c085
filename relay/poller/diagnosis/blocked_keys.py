"""Tells by name which keys of ordered models failed signals hold back. It queries only where some were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.engine import Engine

from signalbus_core.lowlevel import BurstLimits, Measurement, SignalSpec, blocked_keys, transaction

from ...telemetry.events import Events

#: So many keys of a model are named; the others are counted.
MOST_NAMED = 5


def name_blocked_keys(
    engine: Engine,
    limits: BurstLimits,
    specs: Mapping[str, SignalSpec],
    measured: Sequence[tuple[str, Measurement]],
    events: Events,
) -> None:
    """Tell which keys are held back.

    :param specs: the models of the database, by name.
    """
    held_back = [specs[name] for name, one in measured if one.blocked]
    if not held_back:
        return
    with transaction(engine, limits) as connection:
        for spec in held_back:
            events.blocked_named(spec.name, tuple(blocked_keys(connection, spec, MOST_NAMED)))
