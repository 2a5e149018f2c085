"""The burst: the one critical section, in which signals become messages.

A signal is deleted only after its send method proved that the broker has all of its messages, in the same transaction
that holds its row lock. After any failure in between, the row is still in its table.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from ..errors import PartialDeliveryError, PublishError
from ..failures import error_text
from ..model.contract import SignalSpec
from ..model.report import reporting, send_in_order
from ..model.sending.progress import ProgressReporter
from ..model.sending.senders import refuse_unfinished
from ..model.sending.sent_messages import recording_messages
from ..sessions import atomic_mark
from ..sql.selection import EVERYTHING, Choice
from ..sql.transaction import DEFAULT_LIMITS, BurstLimits, resetting_planner
from .delete import Delete, abandon
from .failpoints import failpoint
from .history import known_of
from .kept_locks import tracking_locks
from .lock import lock
from .result import BurstResult, failed_row
from .undeletable import rehearse as rehearse_delete
from .undeletable import table_can_keep_rows

logger = logging.getLogger("signalbus")


def send_burst(
    session: Session,
    spec: SignalSpec,
    *,
    limit: int | None = None,
    choice: Choice = EVERYTHING,
    limits: BurstLimits = DEFAULT_LIMITS,
    rehearse: bool = False,
    can_keep_rows: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    on_locked: Callable[[int], object] | None = None,
    on_progress: Callable[[], object] | None = None,
) -> BurstResult:
    """Lock some signals of one model, send them, delete those that arrived, commit.

    1. Only committed rows that no other relay has locked are taken, lowest keys first.
    2. A signal is deleted only when its send method proved that it arrived.
    3. Whatever the send method raises is in the result; the signals that it proved are still deleted.
    4. A signal that cannot be loaded, or cannot be deleted after it was sent, does not block others; the result has it
       with the reason. Its record in ``signalbus_parked``, where the choice says that this table exists, is written in
       the transaction that deletes the others.

    :param session: a session without a transaction. The send methods see it as ``db.session``.
    :param limit: the largest number of signals to take; the model's burst count when not given.
    :param choice: which signals may be taken. The records of failed ones are deleted when they are sent.
    :param rehearse: try the delete, and take it back, before anything is sent. Signals that a foreign key or a trigger
      keeps in their table are not sent then. It also finds out whether there may be such signals.
    :param can_keep_rows: there may be, as an earlier :attr:`BurstResult.can_keep_rows` says: rows stay locked
      while those that cannot be deleted are looked for. That takes four statements more.
    :param on_locked: called with the number of signals before they are sent.
    :param on_progress: called while they are sent, whenever some are answered for, as far as their sender reports it.
    :raises sqlalchemy.exc.SQLAlchemyError: the database failed before anything was sent.
    :raises BurstError: two rows have one key, or a key cannot be loaded, and nothing was sent; or the database was
      unavailable when sent signals had to be deleted: these are in :attr:`BurstError.proved`.
    """
    started = clock()
    began_after = None if choice.ring is None else choice.ring.after
    try:
        failpoint("begin")
        taken = lock(session, spec, limit or spec.burst_count, choice, limits)
        if not taken.keys:
            session.rollback()
            waited = clock() - started
            is_cut = taken.is_cut and spec.order is not None
            return BurstResult(0, is_cut=is_cut, next_seconds=taken.next_seconds, lock_seconds=waited)
        connection, rows = taken.connection, dict(zip(map(id, taken.signals), taken.rows, strict=True))
        engine = connection.engine
        may_keep_rows: bool | None = None
        unsent = taken.unreadable
        signals = taken.signals
        if rehearse:
            may_keep_rows = table_can_keep_rows(connection, spec)
            undeletable = rehearse_delete(connection, spec, taken.rows)
            kept = {one.key for one in undeletable}
            signals = [signal for signal in signals if rows[id(signal)].key not in kept]
            unsent += undeletable
        locked = clock()
        if on_locked is not None:
            on_locked(len(signals))
        failpoint("locked")

        # The application's own statements must run with the usual planner settings.
        with (
            atomic_mark(session),
            ProgressReporter(session, connection, limits.idle_timeout_seconds, clock, locked, on_progress) as reporter,
            tracking_locks(session, connection, spec, taken.rows) as locked_rows,
            resetting_planner(connection),
            recording_messages(spec.keep_days is not None) as messages,
        ):
            if spec.order is None:
                with reporting(signals) as report:
                    if signals:
                        refuse_unfinished(spec.name, spec.sender(signals, connection)(list(signals)))
            else:
                report = send_in_order(spec, connection, signals, lambda one: taken.place(rows[id(one)]))
            known = {} if messages is None else known_of(messages, report.delivered, rows)
        answered = clock()
        failpoint("confirmed")

        sent_rows = locked_rows.rows([rows[id(signal)] for signal in report.delivered])
        is_locked = locked_rows.are_locked_by(session, sent_rows)
        if not locked_rows.is_first_transaction(session):
            logger.warning(
                "The send method of %s committed, rolled back or closed the session; it should leave that to the bus.",
                spec.name,
                extra={"action": "sender_ended_transaction", "signal": spec.name},
            )
        deleted = Delete(
            session, engine, spec, limits, choice, sent_rows, is_locked, may_keep_rows or can_keep_rows, known
        ).run(taken.signals)
        left = {one.key for one in (*deleted.undeleted, *deleted.changed)}
        sent = [signal for signal in report.delivered if rows[id(signal)].key not in left]
        # Held back behind another one of their key, they are no part of the burst.
        held = {rows[id(signal)].key for signal in report.held}
        keys = tuple([key for key in taken.keys if key not in held]) if held else taken.keys
        if report.error is not None and choice.ring is not None:
            # A smaller burst with the same keys comes nearer to the signal at fault.
            choice.ring.after = began_after
        return BurstResult(
            selected=len(keys),
            sent=len(sent),
            failed=(
                *(failed_row(rows[id(signal)], outcome) for signal, outcome in report.failed),
                *deleted.changed,
                *unsent,
            ),
            undeleted=deleted.undeleted,
            keys=keys,
            error=report.error,
            reason=_reason(report.error, signals),
            written_at=spec.moments(sent),
            message_bytes=reporter.message_bytes,
            can_keep_rows=may_keep_rows,
            is_cut=taken.is_cut or bool(held),
            lowest=taken.lowest,
            next_seconds=taken.next_seconds,
            lock_seconds=locked - started,
            send_seconds=answered - locked,
            commit_seconds=clock() - answered,
        )
    except BaseException:
        abandon(session)
        raise


def _reason(error: BaseException | None, signals: list[Any]) -> str:
    if error is None:
        return ""
    # The texts of these two errors are safe to show; other errors may contain values of the signals.
    return str(error) if isinstance(error, (PartialDeliveryError, PublishError)) else error_text(error, signals)
