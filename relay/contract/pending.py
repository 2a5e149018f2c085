"""Builds the messages of pending signals, and sends none.

Invariant: nothing is written. Each transaction is read-only and rolled back, also one that the application's code
begins; only what that code does outside of its database happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core.lowlevel import SignalSpec, is_lost
from signalbus_core.rabbitmq import BuiltSignal, build_messages, pending_rows

from ..application.read_only import read_only_session

#: So many signals are loaded together. More: fewer transactions, more memory.
TOGETHER = 200


class Source(Protocol):
    """Where signals come from: the tables of the models, and whatever else keeps signals."""

    #: How the source is called, for people: "pending".
    name: str

    def has(self, spec: SignalSpec) -> bool:
        """Whether there is anything to tell of a model."""

    def build(self, spec: SignalSpec) -> Iterator[BuiltSignal]:
        """Build the messages of all its signals of a model."""

    def warnings(self, spec: SignalSpec) -> list[str]:
        """What a person should know of signals of a model that can be built."""


class Pending:
    """The signals that are in their tables.

    :param most: of each model at most so many; None for all.
    """

    name = "pending"

    def __init__(self, app: Flask, db: SQLAlchemy, most: int | None = None) -> None:
        self._app = app
        self._db = db
        self._most = most

    def has(self, spec: SignalSpec) -> bool:
        return True

    def warnings(self, spec: SignalSpec) -> list[str]:
        return []

    def build(self, spec: SignalSpec) -> Iterator[BuiltSignal]:
        with read_only_session(self._app, self._db) as session:
            rows = islice(pending_rows(session, spec), self._most)
            while portion := list(islice(rows, TOGETHER)):
                yield from self._build(spec, portion)

    def _build(self, spec: SignalSpec, rows: Sequence[Any]) -> list[BuiltSignal]:
        try:
            return self._build_together(spec, rows)
        except SQLAlchemyError as error:
            if is_lost(error) or len(rows) == 1:
                raise
        # The code of one of them has broken the transaction of all.
        return [built for row in rows for built in self._build_together(spec, [row])]

    def _build_together(self, spec: SignalSpec, rows: Sequence[Any]) -> list[BuiltSignal]:
        # Each portion is in an application context of its own, as a burst is.
        with read_only_session(self._app, self._db) as session, session.no_autoflush:
            connection = session.connection(bind_arguments={"mapper": spec.mapper})
            built = list(build_messages(session, connection, spec, rows))
            if len(rows) > 1:
                # It fails if a signal has broken the transaction.
                connection.exec_driver_sql("SELECT 1")
            return built
