"""Which models are paused, according to the last poll.

Invariant: the last known pauses stay in force while a database is away, and while this login may not read
``signalbus_paused``. Without that table nothing is paused. Only the poller's thread writes here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from sqlalchemy.engine import Connection

from signalbus_core.lowlevel import SignalSpec, Work, paused_table_of, paused_table_problem, table_privileges

from ..runtime import Runtime
from ..scheduler import Scheduler

_WHEN_CLOSED = "What was last seen paused stays so. Grant SELECT on it to the login of the relay."
_WHEN_MISSING = (
    "No signal model is paused, and none can be. Create it: `signalbus-relay ddl paused` prints it, "
    "db.create_all() and Alembic know it."
)


class PausedModels:
    """Keeps paused models from the workers, and logs when a model is paused or resumed."""

    def __init__(self, scheduler: Scheduler, runtime: Runtime) -> None:
        self._scheduler = scheduler
        self._events = runtime.events
        self._logger = runtime.logger
        self._names: frozenset[str] = frozenset()
        # By database, once its table was checked: why the table cannot be read; None when it can.
        self._problems: dict[str | None, str | None] = {}
        self._closed: set[str | None] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def has_table(self, bind_key: str | None) -> bool:
        """Whether a database has the table, and this login may read it."""
        return self._problems.get(bind_key, "") is None

    def find_table(self, connection: Connection, spec: SignalSpec) -> None:
        """Check whether the table can be read in the same query as a model, and log a change."""
        table, bind_key = paused_table_of(spec), spec.bind_key
        problem = paused_table_problem(connection, table)
        is_closed = problem is not None and table_privileges(connection, table) is not None
        self._closed = self._closed | {bind_key} if is_closed else self._closed - {bind_key}
        is_first = bind_key not in self._problems
        before = self._problems.get(bind_key)
        self._problems[bind_key] = problem
        if problem == before:
            return
        if problem is None:
            self._logger.info("The table %s is there now.", table.fullname, extra={"action": "paused_table_found"})
            return
        self._logger.log(
            # Without pauses no table is needed; but a table that is gone may have held pauses.
            logging.INFO if is_first and not is_closed else logging.WARNING,
            "The table %s %s. %s",
            table.fullname,
            problem,
            _WHEN_CLOSED if is_closed else _WHEN_MISSING,
            extra={"action": "paused_table_missing"},
        )

    def record_pauses(self, bind_key: str | None, work: Iterable[Work]) -> None:
        """Record the pauses that a poll has read, before the work of these models is handed on."""
        if bind_key in self._closed:
            return
        for one in work:
            name = one.spec.name
            if (one.paused is not None) == (name in self._names):
                continue
            if one.paused is None:
                self._names -= {name}
                self._logger.info("%s: resumed.", name, extra={"action": "model_resumed", "signal": name})
            else:
                self._names |= {name}
                self._logger.warning(
                    "%s: paused%s. Its signals stay in their table until it is resumed.",
                    name,
                    f" ({one.paused})" if one.paused else "",
                    extra={"action": "model_paused", "signal": name, "reason": one.paused or None},
                )
            self._events.model_paused(name, one.paused)
            self._scheduler.set_paused(self._names)
