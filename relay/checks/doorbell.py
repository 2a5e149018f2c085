"""The doorbells of the models, and whether a notification arrives at all."""

from __future__ import annotations

import select
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from signalbus_core import SignalSpec, doorbell_problem

from .finding import Finding, found

#: A notification that takes longer is taken for lost.
ARRIVES_WITHIN_SECONDS = 2.0


def check_doorbells(
    engine: Engine, connection: Connection, specs: Sequence[SignalSpec], subject: str
) -> Iterator[Finding]:
    for spec in specs:
        problem = doorbell_problem(connection, spec)
        if problem is not None:
            what, _, remedy = problem.partition(". ")
            yield found("doorbell-unfit", spec.name, what.rstrip("."), remedy)
    connection.commit()
    if engine.dialect.driver == "psycopg2" and not notification_arrives(engine):
        problem = "a notification sent over another connection did not arrive: relays find signals by polling alone"
        yield found("doorbell-undeliverable", subject, problem, "Give the relay a URL that passes by the pooler.")


def notification_arrives(engine: Engine) -> bool:
    """Listen over one connection and notify over another, on a channel that nobody else uses."""
    channel = f"signalbus_check_{uuid.uuid4().hex}"
    with engine.connect() as listener, engine.connect() as notifier:
        listener.execute(text(f'LISTEN "{channel}"'))
        listener.commit()
        notifier.execute(text(f'NOTIFY "{channel}"'))
        notifier.commit()
        raw: Any = listener.connection.dbapi_connection
        if not raw.notifies and select.select([raw], [], [], ARRIVES_WITHIN_SECONDS)[0]:
            raw.poll()
        has_arrived = bool(raw.notifies)
        raw.notifies.clear()
        listener.execute(text(f'UNLISTEN "{channel}"'))
        listener.commit()
    return has_arrived
