"""Dead rows: whether vacuum removes them from the tables, and what holds back the vacuum horizon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy.engine import Connection

from signalbus_core.lowlevel import HorizonHolder, SignalSpec, autovacuum_problem, count_dead_rows, horizon_holders

from ..poller.diagnosis.vacuum_horizon import DEAD_ROWS_THAT_HURT, HELD_FOR_SECONDS, remedy_of_holder
from .finding import Finding, finding_of_text, found

#: A holder of the vacuum horizon is reported after so long, even with few dead rows. Shorter: reports and dumps too.
HELD_SECONDS = 300.0

#: The same for a holder without a known age: so many transactions have begun since.
HELD_TRANSACTIONS = 100_000


def check_bloat(
    connection: Connection, specs: Sequence[SignalSpec], held_seconds: float = HELD_SECONDS
) -> Iterator[Finding]:
    for spec in specs:
        problem = autovacuum_problem(connection, spec)
        if problem is not None:
            yield finding_of_text("autovacuum-unfit", spec.name, problem)
    counted = zip((spec.name for spec in specs), count_dead_rows(connection, specs), strict=True)
    hurting = [f"{number:,} of {name}" for name, number in counted if number >= DEAD_ROWS_THAT_HURT]
    kept = f" ({', '.join(hurting)})" if hurting else ""
    for holder in horizon_holders(connection):
        # With many dead rows, a holder is reported as early as a relay does.
        if is_held(holder, min(held_seconds, HELD_FOR_SECONDS) if hurting else held_seconds):
            problem = f"it has held the horizon while {holder.transactions} transactions began: dead rows stay{kept}"
            yield found("horizon-held", str(holder), problem, remedy_of_holder(holder))


def is_held(holder: HorizonHolder, held_seconds: float) -> bool:
    """Whether it lasts: every transaction holds back the horizon for a moment."""
    if holder.age_seconds is None:
        return holder.transactions >= HELD_TRANSACTIONS
    return holder.age_seconds >= held_seconds
