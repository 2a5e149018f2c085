"""What the retry store knows of signals, and which versions their rows have. Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ARRAY, Text, and_, bindparam, func, null, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.sql import ColumnElement

from ...errors import Proved
from ...failures import raise_if_stop
from ...model.contract import SignalSpec
from ...schema.own_tables import UNDELETED, lacks_columns, parked_table_of
from ..keys import Key, SignalRef, has_key, is_read_exactly, key_from_text, text_of_key
from ..rows import has_id, row_id
from .conditions import row_version


def undeleted_signals(connection: Connection, spec: SignalSpec, limit: int) -> list[Proved]:
    """Signals that are recorded as sent, but not yet deleted."""
    table = parked_table_of(spec)
    version = null() if lacks_columns(connection, table) else table.c.row_version
    rows = connection.execute(
        select(table.c.key, version)
        .where(table.c.table_name == spec.table.fullname, table.c.error_class == UNDELETED)
        .order_by(table.c.key)
        .limit(limit)
    ).all()
    keys = keys_of(connection, spec, [row[0] for row in rows])
    return [Proved(keys[row[0]], row[1]) for row in rows if row[0] in keys]


def keys_of(connection: Connection, spec: SignalSpec, texts: Sequence[str]) -> dict[str, Key]:
    """The keys for these texts. A text that is no key (the table's key may have changed) is omitted."""
    if not texts:
        return {}
    given = func.unnest(bindparam("texts", list(texts), type_=ARRAY(Text))).column_valued("given")
    statement = select(given, *key_from_text(spec, given))
    try:
        with connection.begin_nested():
            return {row[0]: tuple(row[1:]) for row in connection.execute(statement)}
    except BaseException as error:  # the type of an application's column may raise anything
        raise_if_stop(error)
        if isinstance(error, SQLAlchemyError) and not isinstance(error, DataError):
            raise
    if len(texts) == 1:
        return {}
    half = len(texts) // 2
    return keys_of(connection, spec, texts[:half]) | keys_of(connection, spec, texts[half:])


@dataclass(frozen=True)
class FailureHistory:
    """What the retry store knows of a signal.

    :param text: its key as text.
    :param version: of its row.
    :param attempts: 0 when it has not failed before.
    :param error_class: of the last failure; empty when there was none.
    :param failing_seconds: since the first failure.
    :param waited_seconds: since the last one; None when there was none.
    :param has_key: its row is found by its key as Python reads it. Else it cannot be tried again, and is parked.
    """

    text: str
    version: str
    attempts: int
    error_class: str
    failing_seconds: float
    waited_seconds: float | None
    has_key: bool = True


def failure_histories(
    connection: Connection, spec: SignalSpec, keys: Sequence[Key], rows: Sequence[str] = ()
) -> dict[Key, FailureHistory]:
    """What the retry store knows of those of the signals that are still in their table.

    :param rows: the ids of their rows, for those that are not found by their keys.
    """
    histories = _failure_histories(connection, spec, has_key(spec, connection.dialect, keys))
    if rows and not all(is_read_exactly(spec, key) for key in keys):
        # A row that was written anew since is found by its key only.
        by_row = _failure_histories(connection, spec, has_id(rows, spec.table))
        same = {key for key, one in by_row.items() if key in histories and histories[key].text == one.text}
        histories |= {key: replace(one, has_key=key in same) for key, one in by_row.items()}
    return histories


def _failure_histories(
    connection: Connection, spec: SignalSpec, condition: ColumnElement[bool]
) -> dict[Key, FailureHistory]:
    table = parked_table_of(spec)
    key_text = text_of_key(spec)
    same = and_(table.c.table_name == spec.table.fullname, table.c.key == key_text)
    seconds = [
        func.date_part("epoch", func.now() - moment) for moment in (table.c.first_failed_at, table.c.last_failed_at)
    ]
    rows = connection.execute(
        select(
            key_text,
            row_version(spec),
            func.coalesce(table.c.attempts, 0),
            func.coalesce(table.c.error_class, ""),
            func.coalesce(seconds[0], 0.0),
            seconds[1],
            *spec.primary_key,
        )
        .select_from(spec.table.outerjoin(table, same))
        .where(condition)
    )
    return {tuple(row[6:]): FailureHistory(*row[:6]) for row in rows}


def row_versions(connection: Connection, spec: SignalSpec, signals: Sequence[SignalRef]) -> dict[SignalRef, str]:
    """The row version of each of these signals that is still in its table, locked or not.

    A row that is no longer a signal, by the model's condition, is not.

    :param signals: keys, and ids of rows.
    """
    versions: dict[SignalRef, str] = {}
    there = spec.is_signal
    if keys := [one for one in signals if not isinstance(one, str)]:
        by_key = select(row_version(spec), *spec.primary_key).where(has_key(spec, connection.dialect, keys), *there)
        versions |= {tuple(row[1:]): row[0] for row in connection.execute(by_key)}
    if ids := [one for one in signals if isinstance(one, str)]:
        by_id = select(row_id(connection.dialect), row_version(spec)).where(has_id(ids, spec.table), *there)
        versions |= {row[0]: row[1] for row in connection.execute(by_id.select_from(spec.table))}
    return versions
