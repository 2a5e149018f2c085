"""Waits until the row of a signal is gone. Whoever waits never delays or fails a burst."""

from __future__ import annotations

import math
import time
from threading import Event
from typing import Any

from sqlalchemy import exists, literal, select
from sqlalchemy import text as sql_text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.sql import ColumnElement

from ..errors import SetupError
from ..model.contract import SignalSpec
from ..schema.quoting import quoted
from ..sql.keys import Key
from ..sql.transaction import AT_ONCE
from .listener import DRIVERS, listening

#: The longest wait without a look at the signal: a row may be deleted without a notification.
LOOK_SECONDS = 1.0

#: Without notifications, the first wait between two looks, and the longest one. Each wait is twice as long as the last.
FIRST_POLL_SECONDS = 0.005
LAST_POLL_SECONDS = 0.1


def timeout_of(seconds: object) -> float:
    """Check a timeout.

    :raises SetupError: it is none.
    """
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not math.isfinite(seconds) or seconds < 0:  # type: ignore[arg-type,operator]
        raise SetupError(f"timeout_seconds: a number of seconds from 0 on is expected, not {seconds!r}.")
    return float(seconds)  # type: ignore[arg-type]


def wait_until_gone(engine: Engine, spec: SignalSpec, key: Key, own_id: Any, timeout_seconds: float) -> bool:
    """Wait until a committed signal has left its table; return whether it has.

    :param own_id: its ``signalbus_id``, where it is known: another signal may have the same key by then.
    :raises sqlalchemy.exc.SQLAlchemyError: the database failed, or its pool gave no connection in time.
    """
    deadline = time.monotonic() + timeout_seconds
    is_there = _is_there(spec, key, own_id)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT", **AT_ONCE) as connection:
            return _wait(connection, spec, is_there, deadline)
    with engine.connect() as connection:
        return _poll(connection, is_there, deadline)


def _wait(connection: Connection, spec: SignalSpec, is_there: ColumnElement[bool], deadline: float) -> bool:
    facts = select(is_there, sql_text("CAST(CAST(to_regclass(:signalbus_table) AS oid) AS bigint), pg_backend_pid()"))
    found, table_oid, process = connection.execute(facts, {"signalbus_table": quoted(spec.table)}).one()
    if not found:
        return True
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        return False
    if connection.dialect.driver not in DRIVERS or not _is_direct(connection, process):
        return _poll(connection, is_there, deadline)
    with listening(connection, table_oid, min(remaining, LOOK_SECONDS)) as listener:
        while connection.scalar(select(is_there)):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            listener.wait(min(remaining, LOOK_SECONDS))
    return True


def _is_direct(connection: Connection, process: int) -> bool:
    """Whether the server process is the one that the driver connected to. A pooler in between tells another.

    LISTEN and the lock of a session would stay on a server connection that other clients use.
    """
    return bool(connection.connection.driver_connection.info.backend_pid == process)  # type: ignore[union-attr]


def _poll(connection: Connection, is_there: ColumnElement[bool], deadline: float) -> bool:
    pause = FIRST_POLL_SECONDS
    while True:
        found = connection.scalar(select(is_there))
        connection.rollback()
        if not found:
            return True
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        Event().wait(min(pause, remaining))
        pause = min(2 * pause, LAST_POLL_SECONDS)


def _is_there(spec: SignalSpec, key: Key, own_id: Any) -> ColumnElement[bool]:
    conditions = [column == literal(part, column.type) for column, part in zip(spec.primary_key, key, strict=True)]
    if own_id is not None:
        column = spec.mapper.columns["signalbus_id"]
        conditions.append(column == literal(own_id, column.type))
    return exists().where(*conditions).select_from(spec.table)
