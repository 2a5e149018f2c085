"""Erases what was sent: of a key, or by a condition on its rows. A record says that it was done, not what it was."""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
from datetime import datetime, timezone
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from signalbus_core.lowlevel import (
    SENT,
    Erasure,
    SentFilter,
    SignalSpec,
    count_erasable,
    counted,
    erase,
    parked_table_of,
    parked_table_problem,
    sqlstate,
)

from ..exit_codes import CommandError
from ..text import time_text
from .parked import append_line
from .sent import SentSignals

logger = logging.getLogger("signalbus.relay")


class Erasures:
    """Erases what was sent of one model."""

    def __init__(self, signals: SentSignals, model: str) -> None:
        self._signals = signals
        [self._spec] = signals.keeping(model)

    def count(self, chosen: SentFilter) -> Erasure:
        """How much there is to erase.

        :raises CommandError: the condition cannot be used.
        """
        with self._signals.databases.rolled_back(self._spec.bind_key) as connection:
            meant = self._signals.meant(connection, self._spec, chosen)
            try:
                return count_erasable(connection, self._spec, meant, has_notes=_has_notes(connection, self._spec))
            except DBAPIError as error:
                if chosen.where is None or (problem := _problem_with_condition(error)) is None:
                    raise
                raise CommandError(
                    f"--where: {problem}. It is a condition of SQL on the column row, a JSON object whose values are "
                    "texts: row->>'customer_id' = '42'."
                ) from None

    def erase(self, chosen: SentFilter, record: str | None) -> Erasure:
        """Erase it in one transaction, and record that it was done.

        :param record: the path of the file to append to; the record is printed when it is not given.
        :raises CommandError: the history may not be changed.
        """
        spec = self._spec
        with self._signals.databases.transaction(spec.bind_key) as connection:
            problem = SENT.problem(connection, SENT.of(spec), for_change=True)
            if problem is not None:
                raise CommandError(f"The table {SENT.of(spec).fullname} {problem}.")
            meant = self._signals.meant(connection, spec, chosen)
            erased = erase(connection, spec, meant, has_notes=_has_notes(connection, spec))
            # Before the commit: what cannot be recorded is not erased.
            append_line(record, json.dumps(_record_of(spec, meant, erased)))
        logger.warning(
            "%s erased from the history, and the texts of %d notes.",
            counted(erased.sent, f"signal of {spec.name}", "was"),
            erased.notes,
            extra={"action": "history_erased", "signal": spec.name, "number": erased.sent},
        )
        return erased


def _problem_with_condition(error: DBAPIError) -> str | None:
    """What is wrong with a condition, without the values of rows; None when it is not the cause."""
    state = sqlstate(error)
    if state.startswith("42"):
        return str(error.orig).partition("\n")[0]
    if state.startswith("22"):
        # Its text may have a value of any row.
        return f"it cannot be computed of the values of a row ({type(error.orig).__name__})"
    return None


def _record_of(spec: SignalSpec, meant: SentFilter, erased: Erasure) -> dict[str, Any]:
    return {
        "erased_at": time_text(datetime.now(timezone.utc)),
        "by": _user(),
        "model": spec.name,
        "key_sha256": _digest(meant.key),
        "where_sha256": _digest(meant.where),
        "sent": erased.sent,
        "notes": erased.notes,
    }


def _digest(given: str | None) -> str | None:
    # It may name the person who is to be forgotten. Whoever knows it can tell that it is the same.
    return None if given is None else hashlib.sha256(given.encode()).hexdigest()


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A user id without a name, as in containers.
        return None


def _has_notes(connection: Connection, spec: SignalSpec) -> bool:
    return parked_table_problem(connection, parked_table_of(spec), for_change=True) is None
