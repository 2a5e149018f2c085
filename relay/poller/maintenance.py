"""Maintenance, once a minute: find the tables of Signalbus, remove failed signals whose rows are gone, prepare history.

Invariant: no model is polled before its table was checked; what may change is checked again once a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Table
from sqlalchemy.engine import Engine

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
from .joint_query import POLL_LIMITS, QUERIED_TOGETHER, JointQuery
from .pauses import PausedModels

#: The interval of the maintenance. Longer: a table that was created or dropped is noticed later.
TIDY_EVERY_SECONDS = 60.0


class TableError(Exception):
    """The tables of some signal models cannot serve as outboxes; the message has one problem a line."""


class Maintenance:
    """Maintains the tables of each database.

    :param specs: the models of each bind key.
    """

    def __init__(
        self,
        specs: Mapping[str | None, Sequence[SignalSpec]],
        retry_stores: RetryStores,
        paused: PausedModels,
        joint_query: JointQuery,
        runtime: Runtime,
    ) -> None:
        self._specs = specs
        self._retry_stores = retry_stores
        self._paused = paused
        self._joint_query = joint_query
        self._events = runtime.events
        self._clock = runtime.clock
        self._logger = runtime.logger
        #: The models whose keys are still to be checked, once the tables of a database were.
        self._unchecked: dict[str | None, set[str]] = {}
        self._owners: dict[str | None, dict[str, str]] = {}
        self._searched: dict[str | None, float] = {}
        self._tidied: dict[str | None, float] = {}
        self._has_parked_table: dict[str | None, bool] = {}
        self._reported_old: set[str | None] = set()
        self._out_of_order: set[str] = set()
        self._conflicts: dict[str | None, dict[str, str]] = {}

    def verify(self, bind_key: str | None, engine: Engine) -> None:
        """Check, once, that the tables can serve as outboxes.

        :raises TableError: they cannot.
        """
        if bind_key not in self._unchecked:
            if len(self._specs[bind_key]) > QUERIED_TOGETHER:
                self._logger.info(
                    "Checking the tables of %d signal models, before their signals are sent.",
                    len(self._specs[bind_key]),
                    extra={"action": "tables_checked", "models": len(self._specs[bind_key])},
                )
            with transaction(engine, POLL_LIMITS) as connection:
                specs = self._specs[bind_key]
                conflicts = table_conflicts(connection, specs, self._owners_elsewhere(bind_key))
                _refuse(conflicts | table_problems(connection, specs))
                self._owners[bind_key] = table_owners(connection, specs)
            self._unchecked[bind_key] = {spec.name for spec in specs}

    def with_checked_keys(
        self, bind_key: str | None, engine: Engine, specs: Sequence[SignalSpec]
    ) -> Sequence[SignalSpec]:
        """Those of the models whose keys the database compares, which is checked once, before a model is polled.

        A model whose table cannot be checked at the moment is left out.

        :raises TableError: a key cannot be compared.
        """

        def query(some: Sequence[SignalSpec]) -> list[tuple[str, str | None]]:
            with transaction(engine, POLL_LIMITS) as connection:
                problems = key_problems(connection, some)
            return [(spec.name, problems.get(spec.name)) for spec in some]

        left = self._unchecked[bind_key]
        if unchecked := [spec for spec in specs if spec.name in left]:
            checked = dict(self._joint_query.together_or_alone(unchecked, query, lambda: None))
            _refuse({name: problem for name, problem in checked.items() if problem is not None})
            left.difference_update(checked)
        return [spec for spec in specs if spec.name not in left]

    def _owners_elsewhere(self, bind_key: str | None) -> dict[str, str]:
        """The models of the tables of other binds, which may be the same database."""
        others = [owners for other, owners in self._owners.items() if other != bind_key]
        return {table: name for owners in others for table, name in owners.items()}

    def has_parked_table(self, bind_key: str | None) -> bool:
        return self._has_parked_table[bind_key]

    def usable_models(self, bind_key: str | None) -> list[SignalSpec]:
        """The models whose tables can serve as outboxes; the others are not polled meanwhile."""
        conflicts = self._conflicts.get(bind_key, {})
        return [spec for spec in self._specs[bind_key] if spec.name not in conflicts]

    @property
    def has_unusable(self) -> bool:
        """Whether any table has become unable to serve as an outbox, or could not be checked."""
        return any(self._conflicts.values()) or any(self._unchecked.values())

    def find_tables_again(self, bind_key: str | None) -> None:
        """Check the tables of Signalbus again in the next poll: one of them may be what is gone."""
        self._searched.pop(bind_key, None)

    def find_tables(self, bind_key: str | None, engine: Engine) -> None:
        if not self._is_time(self._searched, bind_key):
            return
        spec = self._specs[bind_key][0]
        table = parked_table_of(spec)
        with autocommit(engine, POLL_LIMITS) as connection:
            problem = parked_table_problem(connection, table)
            is_old = problem is None and lacks_columns(connection, table)
            self._paused.find_table(connection, spec)
            unordered = order_problems(connection, self._specs[bind_key])
        self._searched[bind_key] = self._clock()
        self._use_parked_table(bind_key, table, problem)
        self._find_conflicts(bind_key, engine)
        for name, why in unordered.items():
            if name not in self._out_of_order:
                self._out_of_order.add(name)
                self._logger.warning(
                    "%s: its signals are sent in the order in which they were inserted, not in that of the commits. %s",
                    name,
                    why,
                    extra={"action": "order_unfit", "signal": name},
                )
        self._prepare_history(bind_key, engine)
        if is_old and bind_key not in self._reported_old:
            self._reported_old.add(bind_key)
            self._logger.warning(
                "The table %s was made by an earlier version, and is used as that one did: a new signal under the key "
                "of a failed one is left alone with it. Run what `signalbus-relay ddl parked` prints.",
                table.fullname,
                extra={"action": "parked_table_old"},
            )

    def _prepare_history(self, bind_key: str | None, engine: Engine) -> None:
        """Make and drop partitions of what was sent, where models keep that."""
        keeping = [spec for spec in self._specs[bind_key] if spec.keep_days is not None]
        if not keeping:
            return
        self._events.history_checked(bind_key, prepare_history(engine, keeping))

    def _find_conflicts(self, bind_key: str | None, engine: Engine) -> None:
        def query(specs: Sequence[SignalSpec]) -> list[tuple[str, str]]:
            with autocommit(engine, POLL_LIMITS) as connection:
                found = table_conflicts(connection, self._specs[bind_key], self._owners_elsewhere(bind_key))
            return [(spec.name, found[spec.name]) for spec in specs if spec.name in found]

        # A table that cannot be queried keeps no other from being checked.
        conflicts = dict(self._joint_query.together_or_alone(self._specs[bind_key], query, lambda: None))
        for name, conflict in conflicts.items():
            self._events.raised(f"{name}, its table", "model_failing", conflict, name)
        for name in self._conflicts.get(bind_key, {}).keys() - conflicts.keys():
            self._events.resolved(f"{name}, its table", "model_recovered", name)
        self._conflicts[bind_key] = conflicts

    def _use_parked_table(self, bind_key: str | None, table: Table, problem: str | None) -> None:
        self._retry_stores.use_table(bind_key, problem is None)
        if self._has_parked_table.get(bind_key, True) != (problem is None):
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
        self._has_parked_table[bind_key] = problem is None

    def clean_up(self, bind_key: str | None, has_failed: Callable[[str], bool]) -> None:
        """Remove failed signals from the retry store whose rows are gone.

        Last in a poll, and one model at a time: a retry store that cannot be read must not hide pending signals.

        :param has_failed: by model name, whether any of its signals are waiting or parked.
        """
        if not self._is_time(self._tidied, bind_key):
            return
        self._tidied[bind_key] = self._clock()
        for spec in self._specs[bind_key]:
            if has_failed(spec.name) and not self._joint_query.passed_over(spec):
                thing = f"{spec.name}, what is noted of its signals"
                with self._joint_query.hiding_no_other(spec, thing):
                    self._retry_stores[spec.name].clean_up()
                    self._events.resolved(thing, "model_recovered", spec.name)

    def _is_time(self, last: Mapping[str | None, float], bind_key: str | None) -> bool:
        return self._clock() - last.get(bind_key, float("-inf")) >= TIDY_EVERY_SECONDS


def _refuse(problems: Mapping[str, str]) -> None:
    if problems:
        raise TableError("\n".join(dict.fromkeys(problems.values())))
