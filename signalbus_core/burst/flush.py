"""Sends all pending signals of one model, burst by burst, as ``flushmany()`` does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..errors import BurstError, Proved, SignalModelError, UnreadableSignalError, counted
from ..failures import is_late, is_locked, raise_if_stop
from ..model.contract import SignalSpec
from ..schema import catalog
from ..schema.catalog import address, owners_elsewhere, table_privileges
from ..schema.ordering.state import order_problems
from ..schema.own_tables import parked_table_of
from ..sql import parked
from ..sql.diagnosis.trial import key_problems
from ..sql.keys import SignalRef, has_loadable_key
from ..sql.parked import LeaveOut
from ..sql.selection import Choice, Ring, count_unloadable_keys
from ..sql.sent.keeping import prepare_history
from ..sql.transaction import BurstLimits, begin, transaction
from .delete import delete_sent
from .result import FailedSignal, refs_of
from .send import send_burst
from .size import BurstSize

logger = logging.getLogger("signalbus")

#: The tables without positions that this process has told of.
_told: set[tuple[URL, str]] = set()

#: When the send method fails for so many single signals in a row, flushmany() skips the model: the signals are not the
#: cause then. More: longer runs of bad signals are passed over; less: a broken sender is noticed sooner.
MOST_ERRORS_IN_A_ROW = 10

#: When so many bursts hit a time limit, and none between them has sent anything, flushmany() skips the model: no single
#: row is the cause. More: minutes go by with nothing sent; less: a few slow rows are mistaken for a slow table.
MOST_LATE_IN_A_ROW = 3

#: How long flushmany() may look for signals that no burst takes.
MOST_LOOK_SECONDS = 2.0

#: When so many signals of a model have failed, flushmany() skips the model. Their keys are a parameter of every
#: further statement.
MOST_FAILED = 10_000


class Conflicts:
    """Which models have the table of another one; found once for all models of a database.

    :param specs: all signal models of the bus.
    :param engines: of each bind key.
    """

    def __init__(self, specs: Sequence[SignalSpec], engines: Mapping[str | None, Engine]) -> None:
        self._specs = specs
        self._engines = engines
        self._found: dict[URL, dict[str, str]] = {}

    def of(self, connection: Connection, spec: SignalSpec) -> str | None:
        """Why a model's table is not its own; None when it is."""
        url = address(self._engines[spec.bind_key])
        if url not in self._found:
            specs = [one for one in self._specs if address(self._engines[one.bind_key]) == url]
            elsewhere = owners_elsewhere(self._specs, self._engines, spec.bind_key)
            self._found[url] = catalog.table_conflicts(connection, specs, elsewhere)
        return self._found[url].get(spec.name)


def flush(session: Session, engine: Engine, spec: SignalSpec, conflicts: Conflicts) -> tuple[int, BaseException | None]:
    """Send bursts of one model until nothing is left to try; return the number sent and the first error."""
    everything = _check_tables(session, engine, spec, conflicts)
    if spec.keep_days is not None:
        prepare_history(engine, [spec])
    undeleted = list(_delete_what_was_sent(engine, spec, everything))
    sent = errors_in_a_row = 0
    first_error: BaseException | None = None
    failed_refs: dict[SignalRef, None] = _refs(spec, undeleted)
    unreadable: list[FailedSignal] = []
    size = BurstSize(spec.burst_count)
    rehearse, can_keep_rows = True, False
    late_in_a_row = 0
    while True:
        limit = size.limit
        choice = replace(everything, exclude=tuple(failed_refs))
        try:
            result = send_burst(
                session,
                spec,
                limit=limit,
                choice=choice,
                rehearse=rehearse,
                can_keep_rows=can_keep_rows,
            )
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            raise_if_stop(error)
            late_in_a_row += 1
            if is_late(error) and limit > 1 and not is_locked(error) and late_in_a_row < MOST_LATE_IN_A_ROW:
                # Perhaps a single row takes too long: alone, it is found.
                size.shrink()
                continue
            first_error = first_error or error
            break
        size.record(result)
        sent += result.sent
        late_in_a_row = 0 if result.sent else late_in_a_row
        undeleted += result.undeleted
        failed_refs |= _refs(spec, result.undeleted)
        rehearse = bool(result.undeleted) or not sent
        if result.can_keep_rows is not None:
            can_keep_rows = result.can_keep_rows
        first_error = first_error or result.error
        # They failed before they reached the send method.
        unreadable += () if result.error else result.failed
        if result.failed_whole:
            continue
        if any(one.row is None and one.key in failed_refs for one in result.failed):
            # Without an id of its row, a key that Python reads as a different value cannot be excluded.
            break
        failed_refs |= _refs(spec, result.failed)
        errors_in_a_row = errors_in_a_row + 1 if result.failed_alone else 0
        if result.is_outage or errors_in_a_row >= MOST_ERRORS_IN_A_ROW or len(failed_refs) >= MOST_FAILED:
            break
        if result.selected < limit and not result.has_unmentioned and not result.is_cut:
            break
    first_error = first_error or _undeleted(spec, undeleted) or _unreadable(spec, unreadable)
    return sent, first_error or _unloadable(engine, spec)


def _delete_what_was_sent(engine: Engine, spec: SignalSpec, everything: Choice) -> tuple[FailedSignal, ...]:
    """Delete signals that were sent earlier; return those that still cannot be deleted."""
    if everything.leave_out is LeaveOut.NOTHING:
        return ()
    proved: list[Proved] = []
    with transaction(engine, BurstLimits()) as connection:
        proved = parked.undeleted_signals(connection, spec, MOST_FAILED)
    return delete_sent(engine, spec, proved, choice=everything).undeleted if proved else ()


def _undeleted(spec: SignalSpec, left: Sequence[FailedSignal]) -> BurstError | None:
    if not left:
        return None
    return BurstError(
        f"{counted(len(left), f'signal of {spec.name}', 'was')} sent, and cannot be deleted from "
        f"{spec.table.fullname!r}: {left[0].outcome.reason}. They are noted in signalbus_parked "
        "and not sent again. Without that table, or without the right to write it, the next call sends them again.",
        proved=[one.proved for one in left],
    )


def _check_tables(session: Session, engine: Engine, spec: SignalSpec, conflicts: Conflicts) -> Choice:
    """Check the model's table, and find out whether the retry store may be read and its records deleted."""
    connection = begin(session, spec, BurstLimits())
    problem = catalog.table_problem(connection, spec)
    problem = problem or conflicts.of(connection, spec)
    problem = problem or key_problems(connection, [spec]).get(spec.name)
    if problem is None:
        _tell_of_order(connection, spec, address(engine))
    granted = table_privileges(connection, parked_table_of(spec)) or frozenset()
    session.rollback()
    if problem is not None:
        raise SignalModelError(problem)
    # A record that may not be deleted here is deleted by a relay, once the signal is gone.
    leave_out = LeaveOut.PARKED if "SELECT" in granted else LeaveOut.NOTHING
    return Choice(leave_out, forgets={"SELECT", "DELETE"} <= granted, ring=None if spec.order is None else Ring())


def _tell_of_order(connection: Connection, spec: SignalSpec, url: URL) -> None:
    """Warn, once in a process, that the signals of a table are not in the order of their commits."""
    place = (url, spec.table.fullname)
    if spec.order is None or place in _told:
        return
    for name, problem in order_problems(connection, [spec]).items():
        _told.add(place)
        logger.warning(
            "%s: its signals are sent in the order in which they were inserted, not in that of the commits. %s",
            name,
            problem,
            extra={"action": "order_unfit", "signal": name},
        )


def _unreadable(spec: SignalSpec, failed: Sequence[FailedSignal]) -> UnreadableSignalError | None:
    if not failed:
        return None
    return UnreadableSignalError(
        f"{counted(len(failed), f'signal of {spec.name}')} cannot be sent, and will stay in the table; the first is "
        f"{failed[0].outcome}. A row that cannot be loaded has a column whose type in the model does not fit what it "
        "holds, or from which something cannot be computed. A row that cannot be deleted is kept by a foreign key, a "
        "trigger, a rule or row-level security.",
        [one.key for one in failed],
    )


def _unloadable(engine: Engine, spec: SignalSpec) -> UnreadableSignalError | None:
    """Signals that no burst takes, because Python cannot represent their keys; None if that is not known soon."""
    if not has_loadable_key(spec, engine.dialect):
        return None
    try:
        with transaction(engine, BurstLimits(MOST_LOOK_SECONDS, MOST_LOOK_SECONDS)) as connection:
            number = count_unloadable_keys(connection, spec, MOST_FAILED)
    except SQLAlchemyError:
        # What could be sent is sent.
        logger.debug("%s: signals that no burst takes cannot be counted.", spec.name, exc_info=True)
        return None
    if not number:
        return None
    return UnreadableSignalError(
        f"{counted(number, f'signal of {spec.name}')} cannot be sent, and will stay in the table: Python cannot "
        "represent the time in the key (infinity, or a year before 1 or after 9999)."
    )


def _refs(spec: SignalSpec, signals: Sequence[FailedSignal]) -> dict[SignalRef, None]:
    """What further bursts exclude of these signals, in their order."""
    return dict.fromkeys(ref for one in signals for ref in refs_of(spec, one))
