"""Tests whether a session receives notifications.

A pooler in transaction mode accepts LISTEN and delivers nothing. Invariant: a session that receives nothing takes no
advisory lock either: the pooler would leave the lock on a server connection that other clients use.
"""

from __future__ import annotations

import secrets
import threading
import time

from sqlalchemy import text
from sqlalchemy.engine import Engine

from signalbus_core.lowlevel import transaction

from ..poller.joint_query import POLL_LIMITS
from .connection import AsyncConnection, Waker, run, wait

#: The longest time that a notification may take. Longer: a slow server is not mistaken for a pooler.
RECEIVED_WITHIN_SECONDS = 3.0

#: Always the same: behind a pooler, each new name would stay in LISTEN on some server connection.
CHANNEL = "signalbus_self_test"


class NothingReceivedError(Exception):
    """Notifications do not reach a session; the text says what to do."""

    def __init__(self) -> None:
        super().__init__(
            "notifications do not reach this relay, as behind PgBouncer in transaction mode. Signals are found by "
            "polling, up to --poll-interval after they are written. Connect the relay to PostgreSQL directly, or to a "
            "pool in session mode; or say --doorbell off."
        )


def check_notifications(session: AsyncConnection, engine: Engine, waker: Waker, stop: threading.Event) -> None:
    """Notify the session from another connection.

    :raises NothingReceivedError: it did not arrive.
    """
    payload = secrets.token_hex(8)
    run(session, f"LISTEN {CHANNEL}", waker, stop)
    with transaction(engine, POLL_LIMITS) as connection:
        connection.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": payload})
    deadline = time.monotonic() + RECEIVED_WITHIN_SECONDS
    while (CHANNEL, payload) not in session.take_notifications():
        remaining = deadline - time.monotonic()
        if remaining <= 0 or stop.is_set():
            raise NothingReceivedError
        wait([session], waker, min(remaining, 0.5))
        session.advance()
    run(session, f"UNLISTEN {CHANNEL}", waker, stop)
    # The channel is shared: what other relays sent to themselves may have arrived too.
    session.take_notifications()
