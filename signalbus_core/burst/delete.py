"""The last step of a burst: deletes the signals that were sent, and reports those that the database keeps.

A signal that was proved sent is never sent again because its delete failed. A row that a foreign key or a trigger keeps
does not stop the delete of the others: it is found by bisection under savepoints, without sending anything, and
recorded in ``signalbus_parked`` in the transaction that deletes the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..errors import BurstError, Outcome, OutcomeKind, Proved, counted
from ..failures import error_text, raise_if_stop
from ..model.contract import SignalSpec
from ..schema.own_tables import UNDELETED
from ..sql import parked
from ..sql.delete_rows import delete_for_good, delete_rows
from ..sql.parked import LeaveOut
from ..sql.removal import is_left
from ..sql.rows import Row, all_ids, find_ids, find_keys, find_written
from ..sql.selection import EVERYTHING, Choice
from ..sql.sent.move import Kept
from ..sql.transaction import DEFAULT_LIMITS, BurstLimits, begin, put_in_front, transaction
from ..waiting.bell import ring_if_awaited
from .failpoints import failpoint
from .lock import detach
from .result import BurstResult, FailedSignal, failed_row
from .undeletable import delete_by_halves, why_kept

logger = logging.getLogger("signalbus")

#: After how long the delete of a sent signal that the database keeps is tried again.
UNDELETED_WAIT_SECONDS = 60.0

#: Time limits of each statement during the bisection.
ISOLATING = BurstLimits(statement_timeout_seconds=10.0, lock_timeout_seconds=2.0)

_UNKNOWN_VERSION = (
    "when it was sent, the table signalbus_parked had no column row_version (run what `signalbus-relay ddl parked` "
    "prints), so that it may be a new signal under the key of one that was sent; if it is not, `signalbus-relay parked "
    "discard` deletes it"
)

_CHANGED = (
    "its row was written anew while it was being sent, so that nobody can tell whether it is still the same signal; "
    "a send method should leave the row of its signal, and its transaction, to the bus"
)


@dataclass(frozen=True)
class Deleted:
    """The result of deleting signals that were sent.

    :param undeleted: those that the database keeps.
    :param changed: those whose key still has a row, which may be another signal.
    """

    undeleted: tuple[FailedSignal, ...] = ()
    changed: tuple[FailedSignal, ...] = ()


@dataclass(frozen=True)
class Delete:
    """Deletes the signals of a burst that were sent.

    :param engine: of the model's database.
    :param rows: of the signals.
    :param is_locked: the present transaction of the session has locked the rows.
    :param can_keep_rows: single rows may be refused; then the rows stay locked while these are looked for, so that
      nobody else can send what was sent.
    :param known: what is kept of the signals beside their rows, by the ids of these.
    """

    session: Session
    engine: Engine
    spec: SignalSpec
    limits: BurstLimits
    choice: Choice
    rows: Sequence[Row]
    is_locked: bool
    can_keep_rows: bool = False
    known: Mapping[str, Kept] = field(default_factory=dict)

    def run(self, signals: list[Any]) -> Deleted:
        """Delete them and commit what the send method wrote; if that fails, delete them without it.

        :param signals: of the burst; they are detached from the session.
        :raises BurstError: the database is unavailable.
        """
        if not self.rows:
            detach(self.session, self.spec, signals)
            self.session.rollback()
            return Deleted()
        try:
            detach(self.session, self.spec, signals)
            return self._in_session()
        except BaseException as error:  # noqa: BLE001 - the application's code may raise anything on a flush
            raise_if_stop(error)
            # The send method may have broken the transaction; an event listener of the application may raise; the
            # connection, or the answer to COMMIT, may be lost. The messages have arrived in all these cases.
            logger.warning(
                "Deleting %s failed (%s); trying once more in a transaction of its own.",
                counted(len(self.rows), f"sent signal of {self.spec.name}"),
                type(error).__name__,
                extra={"action": "delete_retried", "signal": self.spec.name},
            )
            abandon(self.session)
            try:
                return self._alone()
            except SQLAlchemyError as again:
                raise BurstError(
                    f"{counted(len(self.rows), f'signal of {self.spec.name}', 'was')} sent, and could not be deleted. "
                    f"{error_text(again)}",
                    proved=[row.proved for row in self.rows],
                ) from error

    def _in_session(self) -> Deleted:
        session, spec = self.session, self.spec
        if session.in_transaction():
            connection = session.connection(bind_arguments={"mapper": spec.mapper})
        else:
            connection = begin(session, spec, self.limits)
        put_in_front(connection, ring_if_awaited(spec.table))
        if self.choice.forgets:
            parked.forget(connection, spec, [row.key for row in self.rows])
        deleted = _result_of(connection, spec, self.choice, self._kept(connection), self._changed(connection))
        failpoint("deleted")
        session.commit()
        failpoint("committed")
        return deleted

    def _kept(self, connection: Connection) -> list[tuple[Row, str]]:
        """Delete the rows; return those that the database keeps, and why."""
        if connection.dialect.name != "postgresql" or (self.is_locked and not self.can_keep_rows):
            # No savepoint: what is deleted under one, and was locked before it, costs the database more.
            left = delete_rows(connection, self.spec, self.rows, known=self.known)
            return [(row, why_kept(self.spec)) for row in left]
        # First, so that no signal is blamed for what the send method wrote.
        self.session.flush()
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        attempt = partial(delete_for_good, connection, self.spec, is_locked=self.is_locked, known=self.known)
        kept = delete_by_halves(connection, self.spec, self.rows, attempt, connection.begin_nested)
        # The send method may have written them anew.
        present = find_written(connection, self.spec, [row for row, _, _ in kept])
        return [(Row(row.key, present.get(row.ids[-1], row).ids), why) for row, why, _ in kept]

    def _alone(self) -> Deleted:
        """Delete in a separate transaction, without the application's session and its event listeners."""
        return delete_alone(self.engine, self.spec, self.rows, self.choice, self.limits, self._changed, self.known)

    def _changed(self, connection: Connection) -> list[Row]:
        """Rows that have the keys of the signals, but may be other signals."""
        if self.is_locked or connection.dialect.name != "postgresql":
            return []
        known = set(all_ids(self.rows))
        # A row that was marked has another version since, and is none of them.
        there = find_keys(connection, self.spec, [row.key for row in self.rows], is_left(self.spec))
        return [row for row in there if known.isdisjoint(row.ids)]


def delete_sent(
    engine: Engine,
    spec: SignalSpec,
    proved: Sequence[Proved],
    *,
    choice: Choice = EVERYTHING,
    limits: BurstLimits = DEFAULT_LIMITS,
) -> BurstResult:
    """Delete signals that were sent; send nothing.

    1. A row that was written anew meanwhile is another signal, and stays.
    2. A signal that still cannot be deleted keeps no other one, and is listed in :attr:`BurstResult.undeleted`.
    3. What is gone already, or marked as sent, needs no delete, and is neither sent nor undeleted.
    4. A row of which it is not known whether it is the one that was sent stays too, and is listed as undeleted.

    :param proved: the signals.
    :param choice: whether the retry store exists; if so, its records of the signals are updated.
    :returns: ``sent`` is how many were deleted.
    :raises sqlalchemy.exc.SQLAlchemyError: the database is unavailable.
    """
    versions: dict[tuple[object, ...], set[str | None]] = {}
    for one in proved:
        versions.setdefault(one.key, set()).add(one.version)
    with transaction(engine, limits) as connection:
        left = is_left(spec)
        found = find_keys(connection, spec, list(versions), left)
        # Of a row that Python reads under another key, the id is known.
        known = {one.key for one in found}
        if rows := [one.row for one in proved if one.row is not None and one.key not in known]:
            found += find_ids(connection, spec, rows, left)
    there = [row for row in found if row.version in versions.get(row.key, ())]
    unsure = [row for row in found if row.version is not None and versions.get(row.key) == {None}]
    choice = replace(choice, forgets=choice.leave_out is not LeaveOut.NOTHING)
    undeleted = delete_alone(engine, spec, there, choice, limits).undeleted if there else ()
    return BurstResult(
        selected=len(there) + len(unsure),
        sent=len(there) - len(undeleted),
        undeleted=(
            *undeleted,
            *(FailedSignal(row.key, Outcome(OutcomeKind.ACKED, _UNKNOWN_VERSION, cause=UNDELETED)) for row in unsure),
        ),
        keys=tuple(row.key for row in (*there, *unsure)),
    )


def delete_alone(
    engine: Engine,
    spec: SignalSpec,
    rows: Sequence[Row],
    choice: Choice,
    limits: BurstLimits,
    changed: Callable[[Connection], Sequence[Row]] = lambda _: (),
    known: Mapping[str, Kept] | None = None,
) -> Deleted:
    """Delete those of these rows that can be deleted, and commit; record the rest where the choice says so.

    :raises sqlalchemy.exc.SQLAlchemyError: the database is unavailable.
    """
    with transaction(engine, _shortened(limits)) as connection:
        if choice.forgets:
            parked.forget(connection, spec, [row.key for row in rows])
        attempt = partial(delete_for_good, connection, spec, known=known)
        kept = delete_by_halves(connection, spec, rows, attempt, connection.begin_nested)
        deleted = _result_of(connection, spec, choice, [(row, why) for row, why, _ in kept], changed(connection))
    failpoint("committed")
    return deleted


def _result_of(
    connection: Connection,
    spec: SignalSpec,
    choice: Choice,
    kept: Sequence[tuple[Row, str]],
    changed: Sequence[Row],
) -> Deleted:
    """The result for the signals; it is recorded in the retry store where that exists."""
    undeleted = tuple(
        replace(failed_row(row, Outcome(OutcomeKind.ACKED, why, cause=UNDELETED)), version=row.version)
        for row, why in kept
    )
    if undeleted and choice.leave_out is not LeaveOut.NOTHING:
        _record(connection, spec, undeleted)
    return Deleted(
        undeleted,
        tuple(FailedSignal(row.key, Outcome(OutcomeKind.INVALID, _CHANGED), row.version) for row in changed),
    )


def _record(connection: Connection, spec: SignalSpec, undeleted: Sequence[FailedSignal]) -> None:
    try:
        with connection.begin_nested():
            rows = [one.row for one in undeleted if one.row is not None]
            histories = parked.failure_histories(connection, spec, [one.key for one in undeleted], rows)
            failures = [
                parked.Failure(one.key, 1, UNDELETED_WAIT_SECONDS, UNDELETED, one.outcome.reason)
                for one in undeleted
                if one.key in histories
            ]
            if failures:
                parked.record_failures(connection, spec, failures, histories)
    except SQLAlchemyError as error:
        # The others are still deleted.
        logger.warning(
            "%s sent and cannot be deleted, which cannot be recorded (%s).",
            counted(len(undeleted), f"signal of {spec.name}", "was"),
            error_text(error),
            extra={"action": "undeleted_not_noted", "signal": spec.name},
        )


def _shortened(limits: BurstLimits) -> BurstLimits:
    return replace(
        limits,
        statement_timeout_seconds=min(limits.statement_timeout_seconds, ISOLATING.statement_timeout_seconds),
        lock_timeout_seconds=min(limits.lock_timeout_seconds, ISOLATING.lock_timeout_seconds),
    )


def abandon(session: Session) -> None:
    """Roll back, in any state of the session and its connection."""
    for end in (session.rollback, session.invalidate):
        try:
            end()
        except BaseException as error:
            raise_if_stop(error)
            logger.debug("The session cannot be rolled back.", exc_info=True)
        else:
            return
