"""A database as its poller sees it, and which model each table belongs to, among all databases."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.engine import Engine

from signalbus_core.lowlevel import SignalSpec


class TableOwners:
    """The models of the tables of all binds, two of which may be the same database. Shared by the pollers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[str | None, Mapping[str, str]] = {}

    def record(self, bind_key: str | None, owners: Mapping[str, str]) -> dict[str, str]:
        """Record those of one bind; return those of the others. Of two threads at least the second knows both."""
        with self._lock:
            self._owners[bind_key] = owners
        return self.elsewhere(bind_key)

    def elsewhere(self, bind_key: str | None) -> dict[str, str]:
        """The model of each table of the other binds, by what identifies the table on every server."""
        with self._lock:
            others = [owners for other, owners in self._owners.items() if other != bind_key]
        return {table: name for owners in others for table, name in owners.items()}


@dataclass(frozen=True)
class PolledDatabase:
    """One bind of the application, and its signal models.

    :param owners: shared by all binds.
    """

    bind_key: str | None
    engine: Engine
    specs: Sequence[SignalSpec]
    owners: TableOwners = field(default_factory=TableOwners)

    @property
    def thing(self) -> str:
        """How log lines and incidents call it."""
        return "Database" if self.bind_key is None else f"Database (bind {self.bind_key!r})"

    @property
    def names(self) -> list[str]:
        """The names of its models."""
        return [spec.name for spec in self.specs]
