"""Whether what is sent can be kept: makes the partitions ahead, and suspends the history where that is impossible."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Table
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from ...failures import error_text, is_lost
from ...model.contract import SignalSpec
from ...schema.own_tables import SENT
from ...schema.sent_partitions import prepare
from ..transaction import BurstLimits, transaction
from .suspended import suspend, why_suspended

#: A partition that cannot be dropped at once is dropped later: those who wait for its lock make others wait.
LIMITS = BurstLimits(statement_timeout_seconds=10.0, lock_timeout_seconds=0.2, idle_timeout_seconds=10.0)


def prepare_history(engine: Engine, specs: Sequence[SignalSpec]) -> str | None:
    """Make what the models of one database need to keep what they send; return what is wrong, with what to do.

    Where it cannot be kept, it is only deleted for a minute. Nothing is done for models that keep nothing.

    :raises sqlalchemy.exc.SQLAlchemyError: the database is unavailable.
    """
    problems = [_prepare(engine, table, days) for table, days in _keep_days(specs).items()]
    return next((problem for problem in problems if problem is not None), None)


def history_problem(connection: Connection, specs: Sequence[SignalSpec]) -> dict[Table, str]:
    """Why what these models of one database send cannot be kept, with what to do, by table. Changes nothing."""
    found = {
        table: prepare(connection, table, days, changes=False).problem for table, days in _keep_days(specs).items()
    }
    return {table: problem for table, problem in found.items() if problem is not None}


def _keep_days(specs: Sequence[SignalSpec]) -> dict[Table, set[int]]:
    keep_days: dict[Table, set[int]] = {}
    for spec in specs:
        if spec.keep_days is not None:
            keep_days.setdefault(SENT.of(spec), set()).add(spec.keep_days)
    return keep_days


def _prepare(engine: Engine, table: Table, days: set[int]) -> str | None:
    if engine.dialect.name != "postgresql":
        return "what was sent is kept in PostgreSQL only"
    before = why_suspended(engine, table)
    try:
        with transaction(engine, LIMITS) as connection:
            state = prepare(connection, table, days)
    except SQLAlchemyError as error:
        if is_lost(error):
            raise
        # Perhaps a lock. Bursts find out whether rows can be kept.
        return before or error_text(error)
    if state.problem is not None and not state.is_usable:
        suspend(engine, table, state.problem)
        return state.problem
    # After a failed move it is tried again, and until then it is what is wrong.
    return before or state.problem
