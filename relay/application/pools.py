"""Whether an engine's pool has a connection for each worker, and whether the engine may write."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from sqlalchemy.engine import Engine
from sqlalchemy.pool import AssertionPool, QueuePool, StaticPool

from .databases import place_of
from .load import LoadingError

#: The pool's connections beside those of the workers: the poller's, and one for the notifier's queries.
POOLED_BESIDE_WORKERS = 2


def read_only_problem(engine: Engine) -> tuple[str, str] | None:
    """That the application has made an engine's transactions read-only, and what to set; None when it has not."""
    if not engine.get_execution_options().get("postgresql_readonly"):
        return None
    return "its engine has postgresql_readonly, and a relay deletes what it has sent", (
        "Take it out of the execution_options in SQLALCHEMY_ENGINE_OPTIONS, or give the signals another bind"
    )


def pool_problem(engine: Engine, workers: int) -> tuple[str, str] | None:
    """Why an engine's pool does not suffice for so many workers, and what to set; None when it does.

    A worker without a connection waits, and then its burst fails.
    """
    pool, needed, most = engine.pool, workers + POOLED_BESIDE_WORKERS, most_pooled(engine)
    set_size = f"Set pool_size to {needed} in SQLALCHEMY_ENGINE_OPTIONS"
    if engine.dialect.name == "postgresql" and isinstance(pool, (StaticPool, AssertionPool)):
        problem = f"its {type(pool).__name__} has one connection, and a relay needs {needed}"
        return problem, f"{set_size}, with a QueuePool, or use NullPool"
    if most is None or most >= needed:
        return None
    return (
        f"its pool has {most} connections, and a relay of {workers} workers needs {needed}",
        f"{set_size}, or run fewer workers",
    )


def most_pooled(engine: Engine) -> int | None:
    """How many connections the engine's pool gives at most; None without a limit."""
    pool, overflow = engine.pool, getattr(engine.pool, "_max_overflow", -1)
    # A pool size of zero, and a negative overflow, mean no limit.
    if not isinstance(pool, QueuePool) or pool.size() == 0 or overflow < 0:
        return None
    return pool.size() + overflow


def spare_connections(engines: Iterable[Engine], workers: int) -> int:
    """How many workers beside the usual ones can have a connection of each pool."""
    most = [pooled for engine in engines if (pooled := most_pooled(engine)) is not None]
    return max(0, min(most) - workers - POOLED_BESIDE_WORKERS) if most else sys.maxsize


def refuse_unfit_engines(engines: Mapping[str | None, Engine], workers: int) -> None:
    """Make sure that each worker can have a connection, and write.

    :raises LoadingError: a pool is too small, or an engine read-only.
    """
    problems = {
        place_of(key): read_only_problem(engine) or pool_problem(engine, workers) for key, engine in engines.items()
    }
    if texts := [f"The {name}: {found[0]}. {found[1]}." for name, found in problems.items() if found is not None]:
        raise LoadingError("\n".join(texts))
