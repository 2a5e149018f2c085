"""Builds the messages of signals that were sent and are kept, and sends none: what a replay would send.

Invariant: nothing is written, as for pending signals.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core.lowlevel import SENT, SentFilter, SentSignal, SignalSpec, sent
from signalbus_core.rabbitmq import BuiltSignal, build_restored

from ..application.databases import Databases
from ..application.read_only import read_only_session
from ..operations.kept import built, in_portions, renamed_columns, signals_in_order
from .pending import TOGETHER

_ALL = SentFilter()


class Kept:
    """The signals that were sent, as far as they are kept."""

    name = "kept"

    def __init__(self, app: Flask, db: SQLAlchemy, databases: Databases) -> None:
        self._begin = partial(read_only_session, app, db)
        self._databases = databases

    def has(self, spec: SignalSpec) -> bool:
        with self._databases.rolled_back(spec.bind_key) as connection:
            if connection.dialect.name != "postgresql" or SENT.problem(connection, SENT.of(spec)) is not None:
                return False
            # What was kept before a model ceased to keep it is still there.
            return spec.keep_days is not None or bool(sent.list_sent(connection, spec, _ALL, 1))

    def build(self, spec: SignalSpec) -> Iterator[BuiltSignal]:
        for portion in in_portions(signals_in_order(self._databases, spec, _ALL), TOGETHER):
            for one in built(self._begin, spec, portion, _build):
                yield one.made or BuiltSignal(spec.model, (one.sent.key,), problem=one.problem)

    def warnings(self, spec: SignalSpec) -> list[str]:
        return renamed_columns(self._databases, spec)


def _build(one: SentSignal, signal: Any) -> BuiltSignal:
    return build_restored(signal, (one.key,))
