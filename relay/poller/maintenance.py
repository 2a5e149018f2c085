"""Maintenance, once a minute: find the tables of Signalbus, remove failed signals whose rows are gone, prepare history.

Invariant: no model is polled before its table was checked; what may change is checked again once a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Table

from signalbus_core.lowlevel import (
    SignalSpec,
    autocommit,
    key_problems,
    lacks_columns,
    order_problems,
    parked_table_of,
    parked_table_problem,
    prepare_history,
    table_conflicts,
    table_owners,
    table_problems,
    transaction,
)

from ..runtime import Runtime
from ..worker.retry_store import RetryStores
from .database import PolledDatabase
from .joint_query import POLL_LIMITS, QUERIED_TOGETHER, JointQuery
from .pauses import PausedModels

#: The interval of the maintenance. Longer: a table that was created or dropped is noticed later.
TIDY_EVERY_SECONDS = 60.0


class TableError(Exception):
    """The tables of some signal models cannot serve as outboxes; the message has one problem a line."""


class Maintenance:
    """Maintains the tables of one database."""

    def __init__(
        self,
        database: PolledDatabase,
        retry_stores: RetryStores,
        paused: PausedModels,
        joint_query: JointQuery,
        runtime: Runtime,
    ) -> None:
        self._bind_key, self._engine, self._specs = database.bind_key, database.engine, database.specs
        self._retry_stores = retry_stores
        self._paused = paused
        self._joint_query = joint_query
        self._events = runtime.events
        self._clock = runtime.clock
        self._logger = runtime.logger
        self._owners = database.owners
        #: The models whose keys are still to be checked; None until their tables were.
        self._unchecked: set[str] | None = None
        self._searched_at = self._tidied_at = float("-inf")
        #: Whether the database has the table ``signalbus_parked``, once that was looked for.
        self.has_parked_table = True
        self._has_reported_old = False
        self._out_of_order: set[str] = set()
        self._conflicts: dict[str, str] = {}

    def verify(self) -> None:
        """Check, once, that the tables can serve as outboxes.

        :raises TableError: they cannot.
        """
        if self._unchecked is not None:
            return
        if len(self._specs) > QUERIED_TOGETHER:
            self._logger.info(
                "Checking the tables of %d signal models, before their signals are sent.",
                len(self._specs),
                extra={"action": "tables_checked", "models": len(self._specs)},
            )
        with transaction(self._engine, POLL_LIMITS) as connection:
            # Recorded before it is compared: of two binds that are verified at once, one finds what they share.
            elsewhere = self._owners.record(self._bind_key, table_owners(connection, self._specs))
            conflicts = table_conflicts(connection, self._specs, elsewhere)
            _refuse(conflicts | table_problems(connection, self._specs))
        self._unchecked = {spec.name for spec in self._specs}

    def with_checked_keys(self, specs: Sequence[SignalSpec]) -> Sequence[SignalSpec]:
        """Those of the models whose keys the database compares, which is checked once, before a model is polled.

        A model whose table cannot be checked at the moment is left out.

        :raises TableError: a key cannot be compared.
        """

        def query(some: Sequence[SignalSpec]) -> list[tuple[str, str | None]]:
            with transaction(self._engine, POLL_LIMITS) as connection:
                problems = key_problems(connection, some)
            return [(spec.name, problems.get(spec.name)) for spec in some]

        left = self._unchecked or set[str]()
        if unchecked := [spec for spec in specs if spec.name in left]:
            checked = dict(self._joint_query.together_or_alone(unchecked, query, lambda: None))
            _refuse({name: problem for name, problem in checked.items() if problem is not None})
            left.difference_update(checked)
        return [spec for spec in specs if spec.name not in left]

    def usable_models(self) -> list[SignalSpec]:
        """The models whose tables can serve as outboxes; the others are not polled meanwhile."""
        return [spec for spec in self._specs if spec.name not in self._conflicts]

    @property
    def has_unusable(self) -> bool:
        """Whether any table has become unable to serve as an outbox, or could not be checked."""
        return bool(self._conflicts or self._unchecked)

    def find_tables_again(self) -> None:
        """Check the tables of Signalbus again in the next poll: one of them may be what is gone."""
        self._searched_at = float("-inf")

    def find_tables(self) -> None:
        if not self._is_time(self._searched_at):
            return
        table = parked_table_of(self._specs[0])
        with autocommit(self._engine, POLL_LIMITS) as connection:
            problem = parked_table_problem(connection, table)
            is_old = problem is None and lacks_columns(connection, table)
            self._paused.find_table(connection, self._specs[0])
            unordered = order_problems(connection, self._specs)
        self._searched_at = self._clock()
        self._use_parked_table(table, problem)
        self._find_conflicts()
        for name, why in unordered.items():
            if name not in self._out_of_order:
                self._out_of_order.add(name)
                self._logger.warning(
                    "%s: its signals are sent in the order in which they were inserted, not in that of the commits. %s",
                    name,
                    why,
                    extra={"action": "order_unfit", "signal": name},
                )
        self._prepare_history()
        if is_old and not self._has_reported_old:
            self._has_reported_old = True
            self._logger.warning(
                "The table %s was made by an earlier version, and is used as that one did: a new signal under the key "
                "of a failed one is left alone with it. Run what `signalbus-relay ddl parked` prints.",
                table.fullname,
                extra={"action": "parked_table_old"},
            )

    def _prepare_history(self) -> None:
        """Make and drop partitions of what was sent, where models keep that."""
        if keeping := [spec for spec in self._specs if spec.keep_days is not None]:
            self._events.history_checked(self._bind_key, prepare_history(self._engine, keeping))

    def _find_conflicts(self) -> None:
        def query(specs: Sequence[SignalSpec]) -> list[tuple[str, str]]:
            with autocommit(self._engine, POLL_LIMITS) as connection:
                found = table_conflicts(connection, self._specs, self._owners.elsewhere(self._bind_key))
            return [(spec.name, found[spec.name]) for spec in specs if spec.name in found]

        # A table that cannot be queried keeps no other from being checked.
        conflicts = dict(self._joint_query.together_or_alone(self._specs, query, lambda: None))
        for name, conflict in conflicts.items():
            self._events.raised(f"{name}, its table", "model_failing", conflict, name)
        for name in self._conflicts.keys() - conflicts.keys():
            self._events.resolved(f"{name}, its table", "model_recovered", name)
        self._conflicts = conflicts

    def _use_parked_table(self, table: Table, problem: str | None) -> None:
        self._retry_stores.use_table(self._bind_key, problem is None)
        if self.has_parked_table != (problem is None):
            if problem is None:
                self._logger.info("The table %s is there now.", table.fullname, extra={"action": "parked_table_found"})
            else:
                self._logger.warning(
                    "The table %s %s. Signals that fail are noted in the memory of each relay, and lose their attempts "
                    "when it ends; what was sent and cannot be deleted is sent again then. In models with an order "
                    "all of them hold back their keys, whatever signalbus_on_parked says. Create the table: "
                    "`signalbus-relay ddl parked` prints it, db.create_all() and Alembic know it.",
                    table.fullname,
                    problem,
                    extra={"action": "parked_table_missing"},
                )
        self.has_parked_table = problem is None

    def clean_up(self, has_failed: Callable[[str], bool]) -> None:
        """Remove failed signals from the retry store whose rows are gone.

        Last in a poll, and one model at a time: a retry store that cannot be read must not hide pending signals.

        :param has_failed: by model name, whether any of its signals are waiting or parked.
        """
        if not self._is_time(self._tidied_at):
            return
        self._tidied_at = self._clock()
        for spec in self._specs:
            thing = f"{spec.name}, what is noted of its signals"
            if not has_failed(spec.name):
                self._events.resolved(thing, "model_recovered", spec.name)
            elif not self._joint_query.passed_over(spec):
                with self._joint_query.hiding_no_other(spec, thing):
                    self._retry_stores[spec.name].clean_up()

    def _is_time(self, last: float) -> bool:
        return self._clock() - last >= TIDY_EVERY_SECONDS


def _refuse(problems: Mapping[str, str]) -> None:
    if problems:
        raise TableError("\n".join(dict.fromkeys(problems.values())))
