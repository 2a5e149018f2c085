"""Operations on what was sent: find it, show one. They use only the tables, and work while relays run.

Invariant: rows, which are payloads, are read only where they are asked for, and never logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Connection

from signalbus_core.lowlevel import SENT, SentFilter, SentSignal, SignalSpec, sent

from ..application.databases import Databases
from ..exit_codes import CommandError, NotFoundError
from ..text import time_text

_HOW_TO_KEEP = (
    "What was sent is kept of models with signalbus_keep_days, of tables with --keep-days, once the table is there: "
    "`signalbus-relay ddl sent` prints it, db.create_all() and Alembic know it."
)


class SentSignals:
    """What was sent of the models of an application, as far as it is kept."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases

    def find(self, model: str | None, chosen: SentFilter, limit: int | None) -> list[SentSignal]:
        """What was sent of a model, or of all that keep it, the last first.

        A key without a model is one of any model.

        :raises NotFoundError: there is no such model.
        :raises CommandError: nothing is kept, or it cannot be read; a text is no key of the model.
        """
        found: list[SentSignal] = []
        for spec in self.keeping(model):
            with self.databases.rolled_back(spec.bind_key) as connection:
                meant = self.meant(connection, spec, chosen) if model else _as_written(connection, spec, chosen)
                if meant is not None:
                    found += sent.list_sent(connection, spec, meant, limit)
        return sorted(found, key=lambda one: one.sent_at, reverse=True)[:limit]

    def row(self, one: SentSignal) -> dict[str, str | None]:
        """The columns of a signal that was sent, as texts.

        :raises NotFoundError: it is not kept any more.
        """
        spec = self.databases.spec(one.model)
        with self.databases.rolled_back(spec.bind_key) as connection:
            row = sent.row_of(connection, spec, one)
        if row is None:
            raise NotFoundError(f"{one.model} {one.key} is not kept any more.")
        return row

    def nothing_kept(self, model: str, key: str) -> NotFoundError:
        return NotFoundError(
            f"Of {model} {key} nothing is kept: it was not sent, or too long ago; `signalbus-relay explain` tells more."
        )

    def keeping(self, model: str | None) -> list[SignalSpec]:
        """The model, or all models that keep what was sent; their history can be read.

        :raises NotFoundError: there is no such model.
        :raises CommandError: there is no history, or it cannot be read.
        """
        specs = self.databases.specs if model is None else [self.databases.spec(model)]
        found: list[SignalSpec] = []
        for bind_key, of_bind in self.databases.by_bind(specs).items():
            table = SENT.of(of_bind[0])
            with self.databases.rolled_back(bind_key) as connection:
                problem = SENT.problem(connection, table)
            if problem is None:
                # What was kept before a model ceased to keep it is still there.
                found += of_bind
            elif model is not None or any(spec.keep_days is not None for spec in of_bind):
                raise CommandError(f"The table {table.fullname} {problem}. {_HOW_TO_KEEP}")
        if not found:
            raise CommandError(f"No signal model keeps what was sent. {_HOW_TO_KEEP}")
        return found

    def meant(self, connection: Connection, spec: SignalSpec, chosen: SentFilter) -> SentFilter:
        """The same, with the key as the database writes it.

        :raises CommandError: the text is no key of the model.
        """
        meant = _as_written(connection, spec, chosen)
        if meant is None:
            raise CommandError(f"{chosen.key!r} is no key of {spec.name}.")
        return meant


def _as_written(connection: Connection, spec: SignalSpec, chosen: SentFilter) -> SentFilter | None:
    """The same, with the key as the database writes it; None when the text is no key of the model."""
    if chosen.key is None:
        return chosen
    key = sent.key_text_of(connection, spec, chosen.key)
    return None if key is None else replace(chosen, key=key)


def as_json(one: SentSignal) -> dict[str, Any]:
    """A signal that was sent as JSON, without its row."""
    return {
        "model": one.model,
        "key": one.key,
        "sent_at": time_text(one.sent_at),
        "written_at": time_text(one.written_at),
        "keep_until": one.keep_until.isoformat(),
        "messages": [message._asdict() for message in one.messages],
    }


def as_rows(signals: Sequence[SentSignal]) -> list[tuple[str, ...]]:
    """Signals that were sent as lines of a table."""
    return [_as_row(one) for one in signals]


def _as_row(one: SentSignal) -> tuple[str, ...]:
    first = one.messages[0] if one.messages else None
    more = f" and {len(one.messages) - 1} more" if len(one.messages) > 1 else ""
    where = ["-", "-", "-"] if first is None else [first.exchange, first.routing_key, first.message_id]
    shown = ["''" if text == "" else text or "-" for text in where]
    times = [time_text(one.sent_at) or "", time_text(one.written_at) or "-"]
    return (one.model, one.key, *times, shown[0], shown[1], shown[2] + more)
