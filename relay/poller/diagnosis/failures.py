"""Why the failed signals of a model have failed, by what is noted of them in ``signalbus_parked``.

Invariant: relays and commands take it from here, so that the state of a model is the same wherever it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy.engine import Connection

from signalbus_core.lowlevel import SignalSpec, parked

from ...telemetry.events import Failure
from ...telemetry.states import Cause, failure_of_signals
from ..joint_query import JointQuery


def read_failure(connection: Connection, spec: SignalSpec) -> Failure | None:
    """Why most of a model's waiting signals have failed; None when none is waiting."""
    found = parked.waiting_failure(connection, spec)
    if found is None:
        return None
    error_class, error_text, first_failed_at = found
    return Failure(error_class, error_text, first_failed_at.timestamp())


def noted_thing(model: str) -> str:
    """How incidents call what is noted of the failed signals of a model."""
    return f"{model}, what is noted of its signals"


def read_failures(
    joint_query: JointQuery, connecting: Callable[[], AbstractContextManager[Connection]], specs: Sequence[SignalSpec]
) -> dict[str, Failure | None]:
    """Why signals of these models have failed; without those of which that cannot be read now."""
    failures = {}
    for spec in specs:
        with joint_query.hiding_no_other(spec, noted_thing(spec.name)), connecting() as connection:
            failures[spec.name] = read_failure(connection, spec)
    return failures


def failure_of_model(connection: Connection, spec: SignalSpec) -> Cause | None:
    """The same as the cause of the model's state."""
    failure = read_failure(connection, spec)
    return None if failure is None else failure_of_signals(failure.error_class, failure.reason, failure.since)
