"""Checks the areas of one database in turn; when it does not answer, each area has one error."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from signalbus_core.lowlevel import BurstLimits, SignalSpec, error_text, transaction

from ..application.connection_parameters import rejected_settings
from ..application.databases import place_of
from ..config.resolve import RelayConfig
from ..poller.joint_query import is_lock_timeout
from ..telemetry.remedies import remedy_for
from . import versions
from .configuration import rejected
from .connect import CONNECT_WITHIN_SECONDS
from .doorbell import check_doorbells
from .finding import Finding, found
from .pooler import check_pooler, statement_mode, takes_no_transactions
from .session import check_session
from .signals import check_signals
from .tables import check_tables, locked_table_finding
from .vacuum import check_bloat

#: The areas that query a database, in this order.
DATABASE_AREAS = ("versions", "tables", "signals", "session", "bloat", "doorbell")

#: libpq's texts about servers that are not what target_session_attrs wants.
STANDBY = re.compile("session is read-only|server is in hot standby mode")

LIMITS = BurstLimits(statement_timeout_seconds=5.0, lock_timeout_seconds=1.0, idle_timeout_seconds=10.0)

#: The connections beside those of the workers: the poller's, the notifier's two sessions, and one for its queries.
CONNECTIONS_BESIDE_WORKERS = 4


class DatabaseChecks:
    """Checks one database.

    :param specs: the models whose tables are there.
    :param beside: models of other binds that are the same database.
    :param elsewhere: asks for the owners of the tables at other addresses, which may be the same database.
    """

    def __init__(
        self,
        bind_key: str | None,
        engine: Engine,
        specs: Sequence[SignalSpec],
        config: RelayConfig,
        beside: Sequence[SignalSpec] = (),
        elsewhere: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._name = place_of(bind_key)
        self._engine = engine
        self._specs = specs
        self._beside = beside
        self._elsewhere = elsewhere
        self._config = config

    def run(self, areas: Sequence[str]) -> Iterator[Finding]:
        """Check these areas."""
        started = time.monotonic()
        try:
            self._engine.connect().close()
        except SQLAlchemyError as error:
            # A pooler in statement mode answers at once; a server that timed out is not queried again.
            if time.monotonic() - started < CONNECT_WITHIN_SECONDS and takes_no_transactions(self._engine):
                yield statement_mode(self._name)
            yield from self._unreachable(error, areas)
            return
        for area in areas:
            try:
                with transaction(self._engine, LIMITS) as connection:
                    yield from list(self._checks[area](connection))
            except DBAPIError as error:
                if locked := list(self._locked_tables()) if is_lock_timeout(error) else []:
                    yield from (replace(one, area=area) for one in locked)
                    continue
                problem = f"{area} could not be checked: {error_text(error)}"
                remedy = "Mend what the database says, and run the check again."
                yield found("area-failed", self._name, problem, remedy, area=area)

    def _locked_tables(self) -> Iterator[Finding]:
        with transaction(self._engine, LIMITS) as connection:
            for spec in self._specs:
                yield from locked_table_finding(connection, spec)

    @property
    def _checks(self) -> dict[str, Callable[[Connection], Iterator[Finding]]]:
        return {
            "versions": self._check_version,
            "tables": lambda connection: check_tables(connection, self._specs, self._beside, self._elsewhere()),
            "signals": lambda connection: check_signals(connection, self._specs),
            "session": self._check_session,
            "bloat": lambda connection: check_bloat(connection, self._specs),
            "doorbell": self._check_doorbells,
        }

    def _check_version(self, connection: Connection) -> Iterator[Finding]:
        number = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
        yield from versions.check_postgresql(number, datetime.now(timezone.utc).date())

    def _check_session(self, connection: Connection) -> Iterator[Finding]:
        connections = self._config.workers + CONNECTIONS_BESIDE_WORKERS
        yield from check_session(self._engine, connection, self._name, self._config.burst_limits, connections)
        yield from check_pooler(self._engine, self._name)

    def _check_doorbells(self, connection: Connection) -> Iterator[Finding]:
        if self._config.doorbell == "off":
            yield found("doorbell-off", self._name, "relays poll, as --doorbell off says")
        else:
            yield from check_doorbells(self._engine, connection, self._specs, self._name)

    def _unreachable(self, error: SQLAlchemyError, areas: Sequence[str]) -> Iterator[Finding]:
        if (why := rejected_settings(self._engine)) is not None:
            yield from (replace(rejected(self._name, why), area=area) for area in areas)
            return
        problem = f"no connection to it can be had: {error_text(error)}"
        remedy = remedy_for("database_down", problem).text
        is_standby = STANDBY.search(str(error)) is not None
        if is_standby:
            problem = f"no host of its URL takes writes: {error_text(error)}"
            remedy = "Promote a standby, or name the primary in the URL."
        for area in areas:
            code = "database-standby" if is_standby else "database-unreachable"
            code = code if area == "session" else "area-unreachable"
            yield found(code, self._name, problem, remedy, area=area)
