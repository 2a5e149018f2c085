"""The age of signals, by the time of writing that their model has, or that the database keeps."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, extract, func, literal_column, select, text
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from ..model.contract import SignalSpec


def oldest_age_seconds(connection: Connection, spec: SignalSpec, most: int | None) -> float | None:
    """The age in seconds of a model's oldest signal; None when there is none, or its age is unknown.

    :param most: read only so many signals, those with the lowest keys; all when None.
    """
    moment = written_at_column(connection, spec)
    if moment is None:
        return None
    first = select(moment.label("moment")).select_from(spec.model).where(*spec.is_signal)
    looked_at = (first if most is None else first.order_by(*spec.primary_key).limit(most)).subquery()
    age = func.clock_timestamp() - func.min(looked_at.c.moment)
    seconds = connection.scalar(select(sql_cast(extract("epoch", age), Float)))
    return None if seconds is None else max(0.0, seconds)


def written_at_column(connection: Connection, spec: SignalSpec) -> ColumnElement[Any] | None:
    """When a signal was written, as a column of a query on its model; None when that is unknown.

    https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-TRACK-COMMIT-TIMESTAMP
    """
    if spec.written_at_column is not None:
        return spec.written_at_column
    if connection.dialect.name != "postgresql":
        return None
    keeps_times = text("SELECT CAST(current_setting('track_commit_timestamp') AS bool)")
    return func.pg_xact_commit_timestamp(literal_column("xmin")) if connection.scalar(keeps_times) else None
