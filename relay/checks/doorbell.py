"""The doorbells of the models, and whether a session receives notifications, tested as a relay does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from signalbus_core.lowlevel import SignalSpec, find_doorbells

from ..application.databases import DRIVERS
from ..application.load import WRITE_DRIVER
from ..notifier.connection import AsyncConnection, Waker, run
from ..notifier.notification_test import NothingReceivedError, check_notifications
from .finding import Finding, finding_of_text, found

_PREPARED = text("SELECT CAST(current_setting('max_prepared_transactions') AS int)")


def check_doorbells(
    engine: Engine, connection: Connection, specs: Sequence[SignalSpec], subject: str
) -> Iterator[Finding]:
    wanted = [doorbell for doorbell in find_doorbells(connection, specs) if doorbell.is_wanted]
    prepared = int(connection.scalar(_PREPARED) or 0)
    if prepared and any(doorbell.rings for doorbell in wanted):
        problem = (
            f"prepared transactions are enabled (max_prepared_transactions is {prepared}), and PostgreSQL refuses "
            "PREPARE TRANSACTION to a transaction that has rung a doorbell, as it does while a relay sleeps"
        )
        remedy = (
            "Where producers use two-phase commit, do without: signalbus_doorbell = False in the model, or --doorbell "
            "off for all relays; they poll then."
        )
        yield found("doorbell-two-phase", subject, problem, remedy)
    # Ended here: the test of notifications needs no older open transaction.
    connection.commit()
    for doorbell in wanted:
        if doorbell.problem is not None:
            yield finding_of_text("doorbell-unfit", doorbell.spec.name, doorbell.problem)
    if not wanted:
        return
    if engine.dialect.driver not in DRIVERS:
        problem = f"its engine uses {engine.dialect.driver}: relays find signals by polling alone"
        yield found("doorbell-undeliverable", subject, problem, WRITE_DRIVER)
    elif not receives_notifications(engine):
        problem = "a notification sent over another connection did not arrive: relays find signals by polling alone"
        yield found("doorbell-undeliverable", subject, problem, "Give the relay a URL that passes by the pooler.")


def receives_notifications(engine: Engine) -> bool:
    """Whether a session of a relay receives the notifications of another connection."""
    waker, stop = Waker(), threading.Event()
    with closing(AsyncConnection.open(engine)) as listener:
        run(listener, None, waker, stop)
        try:
            check_notifications(listener, engine, waker, stop)
        except NothingReceivedError:
            return False
    return True
