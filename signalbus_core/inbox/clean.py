"""Deletes old rows in small transactions, so that cleaning delays neither consumers nor VACUUM."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from sqlalchemy import Table, delete, func, select
from sqlalchemy.engine import Engine

from ..errors import SetupError
from .table import DEFAULT

#: Each transaction deletes what was received within so much time. More: fewer transactions, each with more rows.
SLICE = timedelta(minutes=10)

MOST_DAYS = 36_500

#: Before all rows.
BEGINNING = datetime(1, 1, 1, tzinfo=timezone.utc)


def clean(engine: Engine, days: int, *, table: Table | None = None) -> int:
    """Delete the ids of messages that were received more than ``days`` days ago; return how many.

    A message that is delivered again after that counts as new. So keep ids for longer than a message can wait in a
    queue or an outbox, or be sent again by hand. Consumers may work meanwhile.

    :param days: at least 1.
    :param table: as for :func:`receive`.
    :raises SetupError: the number of days is none.
    """
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MOST_DAYS:
        raise SetupError(f"Days to keep: a whole number from 1 to {MOST_DAYS} is expected, not {days!r}.")
    target = DEFAULT if table is None else table
    received = target.c.received_at
    # A row that another cleaner has deleted is skipped; in a snapshot it would be a serialization failure.
    options = {"isolation_level": "READ COMMITTED"} if engine.dialect.name == "postgresql" else {}
    deleted, since = 0, BEGINNING
    with engine.connect().execution_options(**options) as connection:
        before = connection.execute(select(func.now())).scalar_one() - timedelta(days)
        while True:
            # From where the last slice ended: the entries before it in the index are dead, and would be read again.
            first = connection.scalar(select(func.min(received)).where(received >= since, received < before))
            if first is None:
                return deleted
            end = min(first + SLICE, before)
            deleted += connection.execute(delete(target).where(received >= since, received < end)).rowcount
            connection.commit()
            since = end
