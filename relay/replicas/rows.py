"""The rows of relays in ``signalbus_relays``.

Invariant: a relay changes its own row only, and removes those of relays that have been silent for long. One statement
does all that is due; it waits for no other relay.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import Table, delete, extract, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from .replica import Replica, Report

#: The row of a relay that has said nothing for so long is removed. Longer: a relay that was killed is shown longer.
FORGET_AFTER = timedelta(minutes=10)

#: The largest number of other relays that are read.
MOST_READ = 100


def exchange(connection: Connection, table: Table, application: str, own: Replica) -> list[Replica]:
    """Write the row of this relay, remove rows of relays that are gone, and read those of the others.

    :param application: only relays of the same one are read.
    """
    row = table.c
    forgotten = row.seen_at < func.now() - FORGET_AFTER
    values = {
        "application": application,
        "name": own.name,
        "host": own.host,
        "version": own.version,
        "started_at": own.started_at,
        "seen_at": func.now(),
        "report": own.report.as_text(),
    }
    writing = insert(table).values(id=own.id, **values)
    writing = writing.on_conflict_do_update(index_elements=[row.id], set_={name: values[name] for name in _CHANGING})
    gone = select(row.id).where(forgotten, row.id != own.id).with_for_update(skip_locked=True)
    seen = extract("epoch", func.clock_timestamp() - row.seen_at)
    reading = (
        select(row.id, row.name, row.host, row.version, row.started_at, row.report, seen.label("silent_seconds"))
        .where(row.application == application, row.id != own.id, ~forgotten)
        .order_by(row.seen_at.desc())
        .limit(MOST_READ)
        .add_cte(writing.cte("writing"), delete(table).where(row.id.in_(gone)).cte("removing"))
    )
    return list(_read(connection, reading))


#: What a relay says anew.
_CHANGING = ("seen_at", "report")


def _read(connection: Connection, reading: object) -> Iterator[Replica]:
    for row in connection.execute(reading):  # type: ignore[call-overload]
        try:
            report = Report.from_text(row.report)
        except ValueError:
            # Of another version, or not by a relay: it says nothing that could be shown.
            continue
        yield Replica(
            row.id, row.name, row.host, row.version, row.started_at, report, max(0.0, float(row.silent_seconds))
        )


def remove(connection: Connection, table: Table, relay_id: str) -> None:
    """Remove the row of a relay."""
    connection.execute(delete(table).where(table.c.id == relay_id))
