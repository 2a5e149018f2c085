"""Which models of a database are paused, according to the last poll.

Invariant: the last known pauses stay in force while the database is away, and while this login may not read
``signalbus_paused``. Without that table nothing is paused. Only the poller's thread of this database
writes here.
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
        #: Whether the database has the table, and this login may read it.
        self.has_table = False
        # Once the table was checked: why it cannot be read; None when it can.
        self._problem: str | None = None
        self._was_checked = self._is_closed = False

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def find_table(self, connection: Connection, spec: SignalSpec) -> None:
        """Check whether the table can be read in the same query as a model, and log a change."""
        table = paused_table_of(spec)
        problem, before = paused_table_problem(connection, table), self._problem
        self._is_closed = problem is not None and table_privileges(connection, table) is not None
        is_first, self._was_checked = not self._was_checked, True
        self._problem, self.has_table = problem, problem is None
        if problem == before:
            return
        if problem is None:
            self._logger.info("The table %s is there now.", table.fullname, extra={"action": "paused_table_found"})
            return
        self._logger.log(
            # Without pauses no table is needed; but a table that is gone may have held pauses.
            logging.INFO if is_first and not self._is_closed else logging.WARNING,
            "The table %s %s. %s",
            table.fullname,
            problem,
            _WHEN_CLOSED if self._is_closed else _WHEN_MISSING,
            extra={"action": "paused_table_missing"},
        )

    def record_pauses(self, work: Iterable[Work]) -> None:
        """Record the pauses that a poll has read, before the work of these models is handed on."""
        if self._is_closed:
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
            self._scheduler.set_paused([name], paused=one.paused is not None)
