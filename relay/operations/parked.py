"""Operations on failed signals: list them, have them tried again, discard them.

They use only the tables, and work while relays run. Invariant: payloads are never shown, and a signal is written to the
record file before it is discarded.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any

from signalbus_core.lowlevel import (
    BurstLimits,
    FailureRecord,
    SignalSpec,
    held_back,
    parked,
    parked_table_of,
    parked_table_problem,
)

from ..application.databases import Databases
from ..exit_codes import CommandError, NotFoundError
from ..telemetry.remedies import remedy_of
from ..text import redact, say_data, time_text

#: Limits of a command. A discard waits for a burst that has locked the signal.
LIMITS = BurstLimits(statement_timeout_seconds=60.0, lock_timeout_seconds=40.0, idle_timeout_seconds=60.0)


class ParkedSignals:
    """The failed signals in all databases of an application."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def groups(self, model: str | None = None, limit: int | None = None) -> list[parked.FailureGroup]:
        """The failed signals of a model, or all, by state and reason; parked ones first.

        :raises NotFoundError: there is no such model.
        :raises CommandError: a table cannot be used.
        """
        found: list[parked.FailureGroup] = []
        for spec in self._chosen(model):
            with self._databases.transaction(spec.bind_key) as connection:
                found += parked.list_groups(connection, spec, limit)
        return sorted(found, key=lambda one: (not one.is_parked, -one.number))[:limit]

    def find(
        self, model: str | None, key: str | None, limit: int | None = None, group: str | None = None
    ) -> list[FailureRecord]:
        """The failed signals of a model, or one of them, or those of a group, or all; parked ones first.

        :raises NotFoundError: there is no such model, or the signal of this key has not failed.
        :raises CommandError: a table cannot be used.
        """
        found: list[FailureRecord] = []
        for spec in self._chosen(model):
            with self._databases.transaction(spec.bind_key) as connection:
                listed = parked.list_failed(connection, spec, key, limit, group)
            # The model may have been renamed since the signal failed.
            found += [replace(one, model=spec.name) for one in listed]
        if key is not None and not found:
            raise no_failed_signal(model, key)
        if group is not None and not found:
            raise no_such_group(model, group)
        return sorted(found, key=lambda one: not one.is_parked)[:limit]

    def try_again(self, model: str | None, key: str | None, group: str | None = None) -> int:
        """Have failed signals tried at once; return how many.

        :raises NotFoundError: as for :meth:`find`.
        """
        number = 0
        for spec in self._chosen(model):
            with self._databases.transaction(spec.bind_key) as connection:
                number += parked.try_again(connection, spec, key, group)
        if key is not None and not number:
            raise no_failed_signal(model, key)
        if group is not None and not number:
            raise no_such_group(model, group)
        return number

    def skip(self, model: str, key: str) -> None:
        """Let a parked signal hold back the later ones of its key no longer.

        :raises NotFoundError: there is no such model, or the signal is not parked.
        :raises CommandError: the model has no order.
        """
        [spec] = self._chosen(model)
        if spec.order is None:
            raise CommandError(f"{model} has no signalbus_order_by: its signals hold back no others.")
        with self._databases.transaction(spec.bind_key) as connection:
            if not parked.skip(connection, spec, key):
                raise NotFoundError(
                    f"{model} {key} is not parked, or is skipped already; `signalbus-relay explain` tells where it is."
                )

    def held_back(self, signals: Sequence[FailureRecord]) -> list[int | None]:
        """How many signals each of these holds back; None where the model has no order, or it holds back none."""
        found: list[int | None] = []
        for one in signals:
            spec = self._databases.spec(one.model)
            with self._databases.transaction(spec.bind_key) as connection:
                found.append(held_back(connection, spec, one))
        return found

    def discard(self, signals: Sequence[FailureRecord], record: RecordFile) -> int:
        """Delete signals, each in its own transaction, and record them in the file; return how many."""
        number = 0
        for one in signals:
            [spec] = self._chosen(one.model)
            with self._databases.transaction(spec.bind_key) as connection:
                row = parked.discard(connection, spec, one.key)
                if row is not None:
                    # Before the commit: a signal that cannot be recorded is not deleted.
                    record.write(one, row)
                    number += 1
        return number

    def _chosen(self, model: str | None) -> list[SignalSpec]:
        """The chosen models; their databases have the table."""
        chosen = self._databases.specs if model is None else [self._databases.spec(model)]
        for bind_key, specs in self._databases.by_bind(chosen).items():
            table = parked_table_of(specs[0])
            with self._databases.transaction(bind_key) as connection:
                problem = parked_table_problem(connection, table)
            if problem is not None:
                raise CommandError(
                    f"The table {table.fullname} {problem}. Without it each relay notes failed signals in its own "
                    "memory. Create it: `signalbus-relay ddl parked` prints it, db.create_all() and Alembic know it."
                )
        return chosen


def no_such_group(model: str | None, group: str) -> NotFoundError:
    of = "" if model is None else f"of {model} "
    return NotFoundError(
        f"There are no failed signals {of}in the group {group}; `parked list --groups` shows the groups."
    )


def no_failed_signal(model: str | None, key: str) -> NotFoundError:
    return NotFoundError(f"{model} {key} is not a failed signal; `signalbus-relay explain` tells where it is.")


class RecordFile:
    """The record of discarded signals, one JSON object a line.

    :param path: of the file to append to; standard output when not given.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path

    def write(self, signal: FailureRecord, row: dict[str, Any]) -> None:
        append_line(self._path, json.dumps({"discarded_at": _now(), **as_json(signal), "row": row}, default=_plain))


def append_line(path: str | None, line: str) -> None:
    """Append a line to a file that only its owner may read; print it when there is none."""
    if path is None:
        say_data(line)
        return
    with open(path, "a", encoding="utf-8", opener=_open_for_its_owner) as file:
        file.write(line + "\n")
        file.flush()
        # Only a regular file can be synced, not /dev/stdout.
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fsync(file.fileno())


def _open_for_its_owner(path: str, flags: int) -> int:
    """The rows are payloads: only the owner may read a new record file."""
    return os.open(path, flags, 0o600)


def as_json(signal: FailureRecord, held_back: int | None = None) -> dict[str, Any]:
    """A failed signal as JSON.

    :param held_back: how many signals of its key wait for it.
    """
    times = {name: time_text(getattr(signal, name)) for name in ("first_failed_at", "last_failed_at", "next_try_at")}
    first = {"model": signal.model, "key": signal.key, "state": "parked" if signal.is_parked else "waiting"}
    further = {} if held_back is None else {"held_back": held_back}
    return {**first, **asdict(signal), **times, "error_text": redact(signal.error_text), **further}


def group_as_json(group: parked.FailureGroup) -> dict[str, Any]:
    """A group of failed signals as JSON, with what to do about it."""
    times = {name: time_text(getattr(group, name)) for name in ("first_failed_at", "last_failed_at", "next_try_at")}
    state = "parked" if group.is_parked else "waiting"
    shown = {**asdict(group), **times, "state": state, "error_text": redact(group.error_text)}
    remedy = remedy_of(group.error_class)
    return {**shown, "remedy": remedy.text, "runbook": remedy.runbook}


def _now() -> str:
    return time_text(datetime.now(timezone.utc)) or ""


def _plain(value: object) -> object:
    """A column's value for JSON; bytes in a reversible form."""
    if isinstance(value, (bytes, memoryview)):
        return {"base64": base64.b64encode(bytes(value)).decode()}
    return str(value)
