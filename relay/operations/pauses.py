"""Pauses and resumes signal models. It uses only the table ``signalbus_paused``, whether relays run or not.

A pause is in force in every relay after one poll interval. Bursts in flight end as usual.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from signalbus_core.lowlevel import Pause, SignalSpec, paused, paused_table_of, paused_table_problem, table_privileges

from ..application.databases import Databases
from ..exit_codes import CommandError

_CREATE = "Create it: `signalbus-relay ddl paused` prints it, db.create_all() and Alembic know it."
_GRANT = "Its owner can let this login change it: GRANT SELECT, INSERT, DELETE ON {}."


class Pauses:
    """The pauses of an application's signal models."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def pause(self, model: str, reason: str | None = None) -> bool:
        """Pause a model; return False when it is paused already. Then its first reason stays.

        :raises CommandError: there is no such model, or the table cannot be used.
        """
        spec = self._databases.spec(model)
        with self._databases.transaction(spec.bind_key) as connection:
            _require_table(connection, spec)
            return paused.pause(connection, spec, reason)

    def resume(self, model: str) -> bool:
        """Resume a model; return False when it is not paused.

        :raises CommandError: there is no such model, or the table cannot be used.
        """
        spec = self._databases.spec(model)
        with self._databases.transaction(spec.bind_key) as connection:
            _require_table(connection, spec)
            return paused.resume(connection, spec)

    def list(self) -> list[Pause]:
        """All pauses, longest first. Nothing where the table does not exist or this login may not read it."""
        found: list[Pause] = []
        for bind_key, specs in self._databases.by_bind().items():
            with self._databases.transaction(bind_key) as connection:
                found += list_pauses(connection, specs)
        return sorted(found, key=lambda pause: pause.paused_at)


def list_pauses(connection: Connection, specs: Sequence[SignalSpec]) -> Sequence[Pause]:
    """The pauses of these models of one database. Nothing where the table does not exist or may not be read."""
    if paused_table_problem(connection, paused_table_of(specs[0])) is not None:
        return ()
    return paused.list_pauses(connection, specs)


def _require_table(connection: Connection, spec: SignalSpec) -> None:
    table = paused_table_of(spec)
    problem = paused_table_problem(connection, table, for_change=True)
    if problem is not None:
        raise CommandError(
            f"The table {table.fullname} {problem}. It says which models are paused, to all relays. "
            + (_GRANT.format(table.fullname) if table_privileges(connection, table) is not None else _CREATE)
        )
