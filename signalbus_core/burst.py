"""The burst: the one critical section, in which signals become messages.

A signal is deleted only after its send method proved that the broker has every message of it, in the same
transaction that holds its row lock. Whatever goes wrong in between leaves the row in its table.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from . import statements
from .contract import SignalSpec
from .errors import BurstError, PartialDeliveryError, PublishError
from .failpoints import reach
from .first_statement import undone_for_others
from .in_order import PLAN_AS_USUAL
from .keys import Key
from .locking import detach, lock
from .outcome import Outcome, OutcomeKind, worst
from .parked import forget
from .result import BurstResult, FailedSignal
from .row_sizes import lock_fitting
from .statements import EVERYTHING, BurstLimits, Choice, Writer
from .trouble import error_text, sender_failure
from .weighing import weighing
from .written_at import moments

logger = logging.getLogger("signalbus")

DEFAULT_LIMITS = BurstLimits()


@dataclass
class _Report:
    """What the send method has told about the signals of a burst."""

    delivered: list[Any]
    failed: list[tuple[Any, Outcome]] = field(default_factory=list)
    error: BaseException | None = None


def send_burst(
    session: Session,
    spec: SignalSpec,
    *,
    limit: int | None = None,
    choice: Choice = EVERYTHING,
    limits: BurstLimits = DEFAULT_LIMITS,
    rehearse: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    on_locked: Callable[[int], object] | None = None,
    most_bytes: int | None = None,
) -> BurstResult:
    """Lock some signals of one model, send them, delete what arrived, commit.

    1. Only committed rows that no other relay has locked are taken, lowest keys first.
    2. A signal is deleted only when its send method proved that it arrived.
    3. Whatever the send method raises ends up in the result; the signals that it proved are still deleted.

    :param session: a session without a transaction. The send methods see it as ``db.session``.
    :param limit: the largest number of signals to take; the model's burst count when not given.
    :param choice: which signals may be taken. What is noted of those that were set aside is removed when they are sent.
    :param rehearse: try the delete, and take it back, before anything is sent. Then a table that refuses deletes (a
      foreign key, a trigger, a missing privilege) does not lead to messages that are sent over and over again.
    :param on_locked: told the number of signals before they are sent.
    :param most_bytes: ask how large the rows are before they are read, and take no more than so many bytes of them, but
      always one.
    :raises sqlalchemy.exc.SQLAlchemyError: the database failed before anything was sent.
    :raises BurstError: a key cannot be loaded, or signals cannot be deleted; those that were sent will be sent again.
    """
    started = clock()
    try:
        reach("begin")
        said_first = None if most_bytes else statements.limits_to_say_first(session, spec, limits)
        connection = statements.begin(session, spec, None if said_first else limits)
        most, chosen, fitting = limit or spec.burst_count, choice, None
        if most_bytes:
            fitting = lock_fitting(connection, spec, most, choice, most_bytes)
            chosen = choice if fitting is None else Choice(only=fitting.keys)
        has_large, is_cut = (None, False) if fitting is None else (fitting.has_large, fitting.is_cut)
        locked_signals = lock(session, connection, spec, most, chosen, said_first)
        if not locked_signals.keys:
            session.rollback()
            return BurstResult(selected=0, has_large_rows=has_large, lock_seconds=clock() - started)
        signals = locked_signals.signals
        keys = dict(zip(map(id, signals), locked_signals.signal_keys, strict=True))
        if rehearse:
            _rehearse(connection, spec, list(locked_signals.keys))
        transaction = session.get_transaction()
        locked = clock()
        if on_locked is not None:
            on_locked(len(signals))
        reach("locked")

        # The application's own statements are to be planned as they always are.
        with (
            weighing() as scale,
            undone_for_others(connection, "; ".join(PLAN_AS_USUAL)) if said_first else nullcontext(),
        ):
            report = _send(spec, signals) if signals else _Report(delivered=[])
        answered = clock()
        reach("confirmed")

        is_unlocked = session.get_transaction() is not transaction
        if is_unlocked:
            logger.warning(
                "The send method of %s committed, rolled back or closed the session; it should leave that to the bus.",
                spec.name,
                extra={"action": "sender_ended_transaction", "signal": spec.name},
            )
        sent_keys = [keys[id(signal)] for signal in report.delivered]
        delete = _Delete(session, spec, limits, choice, sent_keys, locked_signals.writers, is_unlocked)
        _finish(delete, signals)
        return BurstResult(
            selected=len(locked_signals.keys),
            sent=len(report.delivered),
            failed=(
                *(FailedSignal(keys[id(signal)], outcome) for signal, outcome in report.failed),
                *locked_signals.unreadable,
            ),
            keys=locked_signals.keys,
            error=report.error,
            reason=_reason(report.error, signals),
            written_at=moments(report.delivered, spec.written_at),
            message_bytes=scale.message_bytes,
            has_large_rows=has_large,
            is_cut=is_cut,
            lock_seconds=locked - started,
            send_seconds=answered - locked,
            commit_seconds=clock() - answered,
        )
    except BaseException:
        _abandon(session)
        raise


def _reason(error: BaseException | None, signals: list[Any]) -> str:
    if error is None:
        return ""
    # The reasons in reports are made for people; what else is raised may hold anything.
    return str(error) if isinstance(error, (PartialDeliveryError, PublishError)) else error_text(error, signals)


def _rehearse(connection: Connection, spec: SignalSpec, keys: list[Key]) -> None:
    deleted = statements.rehearse_delete(connection, spec, keys)
    if deleted is not None and deleted != len(keys):
        raise BurstError(_undeletable(spec, len(keys) - deleted) + " Nothing was sent.")


def _undeletable(spec: SignalSpec, number: int) -> str:
    return (
        f"{number} signals of {spec.name} cannot be deleted from {spec.table.fullname!r}, although the database "
        "reports no error. Look for a trigger, a rule or a row-level security policy that suppresses the delete, or "
        "for a key that changes on its way through Python, as a time that is infinite does."
    )


def _send(spec: SignalSpec, signals: list[Any]) -> _Report:
    """Call the model's send method, and turn whatever happens into a report about signals of this burst."""
    try:
        spec.send(signals)
    except PartialDeliveryError as error:
        failed = [*error.failed, *_unmentioned(signals, error)]
        failed_ids = {id(signal) for signal, _ in failed}
        delivered_ids = {id(signal) for signal in error.delivered} - failed_ids
        ours = {id(signal) for signal in signals}
        return _Report(
            delivered=[signal for signal in signals if id(signal) in delivered_ids],
            failed=[(signal, outcome) for signal, outcome in failed if id(signal) in ours],
            error=error,
        )
    except PublishError as error:
        # Of a single signal the messages' outcomes are its own; of several it cannot be told which is whose.
        failed = [(signals[0], worst(error.outcomes))] if len(signals) == 1 else []
        return _Report(delivered=[], failed=failed, error=error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it ends up in the result
        # Of many signals nothing is known; of a single one, that it failed.
        failed = [(signals[0], sender_failure(error, signals[0]))] if len(signals) == 1 else []
        return _Report(delivered=[], failed=failed, error=error)
    return _Report(delivered=signals)


def _unmentioned(signals: list[Any], error: PartialDeliveryError) -> list[tuple[Any, Outcome]]:
    """A signal that was sent alone, and is in neither list, has failed; of several, the next burst takes fewer."""
    if len(signals) > 1 or error.delivered or error.failed:
        return []
    return [(signals[0], Outcome(OutcomeKind.UNKNOWN, "its send method does not say what became of it", cause="error"))]


@dataclass(frozen=True)
class _Delete:
    """The last step of a burst: the deletion of what was sent.

    :param writers: the transactions that wrote the signals, to know them again without a lock.
    :param is_unlocked: the send method has ended the transaction that held the locks.
    """

    session: Session
    spec: SignalSpec
    limits: BurstLimits
    choice: Choice
    keys: list[Key]
    writers: frozenset[Writer]
    is_unlocked: bool

    def run(self, *, is_second_try: bool = False) -> None:
        """Delete exactly these signals, and commit, together with what the send method wrote."""
        session, spec = self.session, self.spec
        if session.in_transaction():
            connection = session.connection(bind_arguments={"mapper": spec.mapper})
        else:
            connection = statements.begin(session, spec, self.limits)
        if self.choice.forgets:
            forget(connection, spec, self.keys)
        # Once the locks are gone, the rows may have gone, and new ones come under their keys.
        writers = self.writers if is_second_try or self.is_unlocked else None
        deleted = statements.delete_signals(connection, spec, self.keys, writers)
        if deleted != len(self.keys):
            # The send method may have deleted signals itself; rows that are still there are another matter.
            remaining = statements.count_existing(connection, spec, self.keys, writers)
            if remaining:
                raise BurstError(
                    _undeletable(spec, remaining) + " They were sent and will be sent again.", sent=len(self.keys)
                )
        reach("deleted")
        session.commit()
        reach("committed")


def _finish(delete: _Delete, signals: list[Any]) -> None:
    """Delete what was sent. Nothing to delete means that nothing was proved: the transaction is rolled back then."""
    session, spec, keys = delete.session, delete.spec, delete.keys
    detach(session, signals)
    if not keys:
        session.rollback()
        return
    try:
        delete.run()
    except BurstError:
        raise
    except Exception as error:  # noqa: BLE001 - the application's code may raise anything on a flush
        # The send method may have left the transaction in ruins, or the connection may be gone, or COMMIT's answer.
        # The messages have arrived: deleting their signals without the lock is right, sending them again is not.
        logger.warning(
            "Deleting %d sent signals of %s failed (%s); trying once more in a transaction of its own.",
            len(keys),
            spec.name,
            type(error).__name__,
            extra={"action": "delete_retried", "signal": spec.name},
        )
        _abandon(session)
        try:
            delete.run(is_second_try=True)
        except BurstError:
            raise
        except Exception as again:  # noqa: BLE001 - as above
            raise BurstError(
                f"{len(keys)} signals of {spec.name} were sent and could not be deleted; they will be sent again. "
                f"{error_text(again)}",
                sent=len(keys),
            ) from error


def _abandon(session: Session) -> None:
    """Roll back, whatever state the session and its connection are in."""
    try:
        session.rollback()
    except SQLAlchemyError:
        logger.debug("The rollback failed; the connection is given up.", exc_info=True)
        session.invalidate()
