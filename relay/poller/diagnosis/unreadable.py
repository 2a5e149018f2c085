"""Why the table of a model cannot be read: who has locked it, or for which row the condition of ``--where`` fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError

from signalbus_core.lowlevel import FaultyRow, Key, SignalSpec, error_text, find_faulty_row, locate

from ...telemetry.remedies import CONDITION_FAILS
from ..joint_query import is_lock_timeout
from .unreached import locked_table


class Unreadable:
    """Tells why statements about models fail.

    :param connecting: begins a transaction.
    """

    def __init__(self, connecting: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._connecting = connecting
        #: The row of each model for which its condition failed last: most likely it still does.
        self._faulty: dict[str, Key] = {}

    def why(self, spec: SignalSpec, error: DBAPIError) -> str:
        """Why a statement about the model failed, in words for people."""
        reason = None
        # The error itself tells enough where this fails; Python cannot hold every key of a database.
        with suppress(SQLAlchemyError, ValueError, OverflowError), self._connecting() as connection:
            if is_lock_timeout(error):
                reason = locked_table(locate.table_holder(connection, spec))
            elif isinstance(error, DataError):
                reason = self._why_condition_fails(connection, spec)
        return reason or error_text(error)

    def _why_condition_fails(self, connection: Connection, spec: SignalSpec) -> str | None:
        row = find_faulty_row(connection, spec, self._faulty.get(spec.name))
        if row is None:
            return None
        self._faulty[spec.name] = row.key
        return condition_fails(row)


def condition_fails(row: FaultyRow) -> str:
    """For which row the condition of a model fails, and why."""
    why = error_text(row.error)
    return f"{CONDITION_FAILS} the row with key {row.key_text} ({why}), and rows are not sent until that is mended"
