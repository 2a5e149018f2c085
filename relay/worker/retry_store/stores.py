"""The retry store of each model: the table where the model's database has it, else memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sqlalchemy.engine import Engine

from signalbus_core.lowlevel import BurstLimits, Key, SignalRef, SignalSpec, locate, parked, transaction

from ..retry_policy import RetryPolicy
from .memory import MemoryRetryStore
from .store import RetryStore
from .table import TableRetryStore


class RetryStores:
    """The retry store of each model: the table where the model's database has it, else memory.

    :param engines: the engine of each bind key that the models use.
    """

    def __init__(
        self,
        specs: Sequence[SignalSpec],
        engines: Mapping[str | None, Engine],
        policy: RetryPolicy,
        limits: BurstLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._engines = engines
        self._limits = limits
        self._memory = {
            name: MemoryRetryStore(
                policy,
                partial(self.versions, name),
                clock,
                skips_parked=spec.order is not None and spec.order.skips_parked,
            )
            for name, spec in self._specs.items()
        }
        self._tables: dict[str, RetryStore] = {
            spec.name: TableRetryStore(spec, engines[spec.bind_key], policy, limits, self._memory[spec.name])
            for spec in specs
        }
        self._with_table: set[str | None] = set()

    def __getitem__(self, name: str) -> RetryStore:
        return (self._tables if self._specs[name].bind_key in self._with_table else self._memory)[name]

    def use_table(self, bind_key: str | None, is_there: bool) -> None:
        """Note whether a database has the table.

        Once it has, what this process remembers of signals that were sent is recorded there: they must not be sent
        again.

        :raises sqlalchemy.exc.SQLAlchemyError: that cannot be recorded.
        """
        if is_there and bind_key not in self._with_table:
            for name, retry_store in self._memory.items():
                if self._specs[name].bind_key == bind_key and (sent := retry_store.sent()):
                    self._tables[name].put(sent)
        self._with_table = self._with_table | {bind_key} if is_there else self._with_table - {bind_key}

    def engine(self, name: str) -> Engine:
        """The engine of a model's database."""
        return self._engines[self._specs[name].bind_key]

    def key_texts(self, name: str, keys: Sequence[Key]) -> dict[Key, str]:
        """The texts by which a person names these signals of a model."""
        with transaction(self.engine(name), self._limits) as connection:
            return locate.key_texts(connection, self._specs[name], keys)

    def versions(self, name: str, signals: Sequence[SignalRef]) -> dict[SignalRef, str]:
        """The row versions of those of these signals that are in the model's table, locked or not."""
        with transaction(self.engine(name), self._limits) as connection:
            return parked.row_versions(connection, self._specs[name], signals)
