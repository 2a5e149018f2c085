"""How old signals are, as far as their database can tell: by the time of their commit, or by a column of their own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DateTime, Float, Table, cast, func, literal_column, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from .contract import SignalSpec

#: A column of this name, with time zone, tells when a signal was written where the server keeps no times of commits.
WRITTEN_AT = "created_at"


def oldest_age_seconds(connection: Connection, spec: SignalSpec, most: int | None) -> float | None:
    """The age in seconds of a model's oldest signal; None when there is none, or nothing tells it.

    :param most: look at so many signals only, those with the lowest keys; at all when None.
    """
    moment = written_at(connection, spec)
    if moment is None:
        return None
    first = select(moment.label("moment")).select_from(spec.model)
    looked_at = (first if most is None else first.order_by(*spec.primary_key).limit(most)).subquery()
    age = func.clock_timestamp() - func.min(looked_at.c.moment)
    seconds = connection.scalar(select(cast(func.extract("epoch", age), Float)))
    return None if seconds is None else max(0.0, seconds)


def written_at(connection: Connection, spec: SignalSpec) -> ColumnElement[Any] | None:
    """When a signal was written, as a column of a statement about its model; None when nothing tells it.

    https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-TRACK-COMMIT-TIMESTAMP
    """
    if connection.dialect.name != "postgresql":
        return None
    if connection.scalar(text("SELECT CAST(current_setting('track_commit_timestamp') AS bool)")):
        return func.pg_xact_commit_timestamp(literal_column("xmin"))
    return _column(spec.table)


def _column(table: Table) -> ColumnElement[Any] | None:
    column = table.c.get(WRITTEN_AT)
    # Without a time zone nobody knows which clock it was.
    return column if column is not None and isinstance(column.type, DateTime) and column.type.timezone else None
