"""What a person does to failed signals: list them, try them again, discard them. Each statement is about one model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, Table, Text, and_, func, literal, null, select
from sqlalchemy import cast as sql_cast
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import ColumnElement

from ...failures import raise_if_stop
from ...model.contract import SignalSpec
from ...schema.own_tables import LONGEST_REASON, SKIPPED, UNDELETED, FailureRecord, lacks_columns, parked_table_of
from ..keys import Key, has_key
from .conditions import count_columns, row_version
from .histories import keys_of, row_versions


@dataclass(frozen=True)
class FailureGroup:
    """Failed signals of one model that have the same state and failed for the same reason.

    :param group: names the group; the same as long as the reason is.
    :param number: of its signals.
    :param key: of one of them.
    :param error_text: of one of them: the texts of the others differ at most in words with a digit.
    :param destination: who refused them; None when nobody did, or it is not known.
    :param next_try_at: the first; None when they are parked.
    """

    model: str
    group: str
    number: int
    key: str
    first_failed_at: datetime
    last_failed_at: datetime
    next_try_at: datetime | None
    error_class: str
    error_text: str
    destination: str | None

    @property
    def is_parked(self) -> bool:
        return self.next_try_at is None


def list_groups(connection: Connection, spec: SignalSpec, limit: int | None = None) -> list[FailureGroup]:
    """The failed signals of a model by state and reason: parked ones first, then by their number."""
    table = parked_table_of(spec)
    destination = null() if lacks_columns(connection, table) else table.c.destination
    columns = [table.c[field.name] for field in fields(FailureRecord)]
    of = select(*columns, _group(connection, table).label("name"), destination.label("of"))
    one = of.where(*_matching(spec, None)).subquery("signalbus_one")
    number, next_try = func.count(), func.min(one.c.next_try_at)
    first_failed, last_failed = func.min(one.c.first_failed_at), func.max(one.c.last_failed_at)
    texts = [func.min(one.c[name]) for name in ("error_class", "error_text", "of")]
    rows = connection.execute(
        select(literal(spec.name), one.c.name, number, func.min(one.c.key), first_failed, last_failed, next_try, *texts)
        .group_by(one.c.name)
        .order_by(next_try.is_not(None), number.desc(), first_failed, one.c.name)
        .limit(limit)
    )
    return [FailureGroup(*row) for row in rows]


def _group(connection: Connection, table: Table) -> ColumnElement[str]:
    """What names the group of a record: a digest of its state and reason."""
    destination = null() if lacks_columns(connection, table) else table.c.destination
    # Numbers, ids and times differ from signal to signal, and so do the values that are left out.
    word = r"(?:\*\*\*|[[:alnum:]_-]*[0-9][[:alnum:]_-]*)"
    reason = func.regexp_replace(table.c.error_text, f"{word}(?:[ ,]+{word})*", "#", "g")
    parts = func.jsonb_build_array(table.c.next_try_at.is_(None), table.c.error_class, destination, reason)
    return func.to_hex(func.hashtextextended(sql_cast(parts, Text), 0))


def waiting_failure(connection: Connection, spec: SignalSpec) -> tuple[str, str, datetime] | None:
    """The class of the errors of most signals that wait for their next try, one of their texts, and since when.

    None when none is waiting.
    """
    table = parked_table_of(spec)
    row = connection.execute(
        select(table.c.error_class, func.min(table.c.error_text), func.min(table.c.first_failed_at))
        .where(*_matching(spec, None), table.c.next_try_at.is_not(None))
        .group_by(table.c.error_class)
        .order_by(func.count().desc(), table.c.error_class)
        .limit(1)
    ).first()
    return None if row is None else (row[0], row[1], row[2])


def count_failed(connection: Connection, spec: SignalSpec) -> tuple[int, int]:
    """How many signals of a model are waiting, and how many are parked."""
    waiting, parked = connection.execute(select(*count_columns(spec))).one()
    return waiting, parked


def list_failed(
    connection: Connection,
    spec: SignalSpec,
    key: str | None = None,
    limit: int | None = None,
    group: str | None = None,
) -> list[FailureRecord]:
    """The failed signals of a model: parked ones first, then by the time of their next try."""
    table = parked_table_of(spec)
    rows = connection.execute(
        select(*(table.c[field.name] for field in fields(FailureRecord)))
        .where(*_matching(spec, key), *_in_group(connection, table, group))
        .order_by(table.c.next_try_at.asc().nulls_first(), table.c.first_failed_at, table.c.key)
        .limit(limit)
    )
    return [FailureRecord(**row._mapping) for row in rows]


def records_of_row(connection: Connection, spec: SignalSpec, key: Key, text: str) -> list[FailureRecord]:
    """The records of the row that has this key now; when there is none, of the one that had it."""
    recorded = list_failed(connection, spec, text)
    table = parked_table_of(spec)
    if not recorded or lacks_columns(connection, table):
        return recorded
    version = connection.scalar(select(table.c.row_version).where(*_matching(spec, text)))
    found = row_versions(connection, spec, [key])
    return recorded if version is None or found.get(key, version) == version else []


def try_again(connection: Connection, spec: SignalSpec, key: str | None = None, group: str | None = None) -> int:
    """Make failed signals of a model due at once, parked ones too; return how many."""
    table = parked_table_of(spec)
    chosen = (*_matching(spec, key), *_in_group(connection, table, group))
    updated = connection.execute(sql_update(table).where(*chosen).values(next_try_at=func.now()))
    return cast("CursorResult[Any]", updated).rowcount


def skip(connection: Connection, spec: SignalSpec, key: str) -> int:
    """Let a parked signal hold back the later ones of its key no longer; return how many are skipped."""
    table = parked_table_of(spec)
    reason = func.left(func.concat(table.c.error_class, ": ", table.c.error_text), LONGEST_REASON)
    is_parked = [table.c.next_try_at.is_(None), table.c.error_class.not_in((SKIPPED, UNDELETED))]
    skipped = sql_update(table).where(*_matching(spec, key), *is_parked)
    updated = connection.execute(skipped.values(error_class=SKIPPED, error_text=reason))
    return cast("CursorResult[Any]", updated).rowcount


def discard(connection: Connection, spec: SignalSpec, text: str) -> dict[str, Any] | None:
    """Delete a failed signal with its record.

    It waits for a burst that is trying the signal; if that burst sends it, nothing is discarded.

    :param text: its key, as it is recorded.
    :returns: the columns of the deleted row; None when the signal has not failed, or is no longer in its table. A row
      that was written anew since is another signal, and stays.
    """
    keys = list(keys_of(connection, spec, [text]).values())
    # In the lock order of a burst, to avoid deadlocks: the signal first, then its record.
    here = and_(has_key(spec, connection.dialect, keys), *spec.is_signal)
    found = connection.execute(select(row_version(spec)).where(here).with_for_update()).first() if keys else None
    if found is None:
        return None
    table = parked_table_of(spec)
    version = null() if lacks_columns(connection, table) else table.c.row_version
    recorded = connection.execute(sql_delete(table).where(*_matching(spec, text)).returning(version)).first()
    if recorded is None or recorded[0] not in (None, found[0]):
        return None
    return _delete(connection, spec, here)


def _delete(connection: Connection, spec: SignalSpec, here: ColumnElement[bool]) -> dict[str, Any]:
    """Delete a row, and return its columns: all as text if the model cannot load one of them."""
    deleting, columns = sql_delete(spec.table).where(here), spec.table.columns
    try:
        with connection.begin_nested():
            return dict(connection.execute(deleting.returning(*columns)).one()._mapping)
    except SQLAlchemyError:
        raise
    except BaseException as error:  # noqa: BLE001 - the types of the application's columns may raise anything
        raise_if_stop(error)
        texts = [sql_cast(column, Text).label(column.name) for column in columns]
        return dict(connection.execute(deleting.returning(*texts)).one()._mapping)


def _in_group(connection: Connection, table: Table, group: str | None) -> list[ColumnElement[bool]]:
    return [] if group is None else [_group(connection, table) == group]


def _matching(spec: SignalSpec, key: str | None) -> list[ColumnElement[bool]]:
    table = parked_table_of(spec)
    conditions: list[ColumnElement[bool]] = [table.c.table_name == spec.table.fullname]
    if key is not None:
        conditions.append(table.c.key == key)
    return conditions
