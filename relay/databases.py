"""The signal models of an application and their databases, as commands use them: for a short time, beside relays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy.engine import Connection, Engine

from signalbus_core import BurstLimits, SignalSpec, transaction

from .database import limit_connections
from .exits import CommandError
from .loading import LoadedApp

#: Limits of a command that only reads, or changes a single row.
LIMITS = BurstLimits(statement_timeout_seconds=60.0, lock_timeout_seconds=10.0, idle_timeout_seconds=60.0)


class Databases:
    """All databases of an application's signal models.

    :param limits: of the transactions that are begun here.
    :param engines: of each bind key that the models use; the application's own when not given.
    """

    def __init__(
        self,
        loaded: LoadedApp,
        limits: BurstLimits = LIMITS,
        engines: Mapping[str | None, Engine] | None = None,
    ) -> None:
        with loaded.app.app_context():
            self.specs = loaded.bus.specs()
            ours: dict[str | None, Engine] = {s.bind_key: loaded.bus.db.engines[s.bind_key] for s in self.specs}
        self._engines = ours if engines is None else engines
        self._limits = limits
        if engines is None:
            for engine in ours.values():
                limit_connections(engine)

    def spec(self, model: str) -> SignalSpec:
        """The model of this name.

        :raises CommandError: there is none.
        """
        known = {spec.name: spec for spec in self.specs}
        if model not in known:
            raise CommandError(f"There is no signal model {model!r}. Known are: {', '.join(known)}.")
        return known[model]

    def by_bind(self, specs: Sequence[SignalSpec] | None = None) -> dict[str | None, list[SignalSpec]]:
        """These models, or all, by their databases."""
        found: dict[str | None, list[SignalSpec]] = {}
        for spec in self.specs if specs is None else specs:
            found.setdefault(spec.bind_key, []).append(spec)
        return found

    @contextmanager
    def transaction(self, bind_key: str | None) -> Iterator[Connection]:
        """A transaction of its own, committed at the end."""
        with transaction(self._engines[bind_key], self._limits) as connection:
            yield connection

    @contextmanager
    def rolled_back(self, bind_key: str | None) -> Iterator[Connection]:
        """A transaction that leaves nothing behind, and lets go of its locks at the end."""
        with transaction(self._engines[bind_key], self._limits) as connection:
            yield connection
            connection.rollback()
