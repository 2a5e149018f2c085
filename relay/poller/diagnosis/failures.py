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


def failures_thing(model: str) -> str:
    """How incidents call the reasons for which signals of a model have failed."""
    return f"{model}, why its signals fail"


def read_failures(
    joint_query: JointQuery, connecting: Callable[[], AbstractContextManager[Connection]], specs: Sequence[SignalSpec]
) -> dict[str, Failure | None]:
    """Why signals of these models have failed; without those of which that cannot be read now."""

    def read(spec: SignalSpec) -> Failure | None:
        with connecting() as connection:
            return read_failure(connection, spec)

    return joint_query.one_by_one(specs, failures_thing, read)


def failure_of_model(connection: Connection, spec: SignalSpec) -> Cause | None:
    """The same as the cause of the model's state."""
    failure = read_failure(connection, spec)
    return None if failure is None else failure_of_signals(failure.error_class, failure.reason, failure.since)
