"""The first step of a burst: locks and loads its signals. One that cannot be loaded does not block the others.

A row can fail the statement that loads it: in the server, where a column of the model is computed from it, or in
Python, where a type cannot convert the value of a column. Then the rows are locked by their ids only, and loaded by
bisection until the faulty rows are found.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.orm import Session

from ..errors import BurstError, Outcome, OutcomeKind, counted
from ..failures import is_away, is_late, is_locked, is_of_schema, is_stop
from ..model.contract import SignalSpec
from ..model.order import Place
from ..sql.keys import Key
from ..sql.lock_rows import follows_index, keys_of_rows, load_rows, lock_rows
from ..sql.ordered.heads import take_in_order
from ..sql.rows import Row
from ..sql.selection import Choice
from ..sql.transaction import DEFAULT_PLANNER, FOLLOW_THE_INDEX, BurstLimits, begin, run_all, settings_option
from .result import FailedSignal
from .scheduled import Taken, take
from .size import MOST_BYTES

logger = logging.getLogger("signalbus")

#: So many rows are locked in addition when keys cannot be loaded. More: longer runs of such rows are skipped; less:
#: fewer rows are locked meanwhile.
MOST_LOST = 1000

#: Signals, each with its row.
_Loaded = list[tuple[Any, Row]]


@dataclass(frozen=True)
class Locked:
    """The rows that a burst has locked.

    :param connection: of the transaction that has the locks.
    :param keys: of all signals, in order.
    :param signals: those that could be loaded: instances, or rows for the ``row_sender`` of the model.
    :param rows: the row of each of them, in their order.
    :param unreadable: those whose rows cannot be loaded.
    :param is_cut: there may be further rows that would have fitted, but for their size or their key.
    :param lowest: the first key of the scan in the order of the key; None when it found none.
    :param next_seconds: until the next signal is due; None when none is known to be scheduled.
    :param places: of the signals of an ordered model, by the ids of their rows, or by their keys where these have none.
    """

    connection: Connection
    keys: tuple[Key, ...] = ()
    signals: list[Any] = field(default_factory=list)
    rows: tuple[Row, ...] = ()
    unreadable: tuple[FailedSignal, ...] = ()
    is_cut: bool = False
    lowest: Key | None = None
    next_seconds: float | None = None
    places: Mapping[Any, Place] = field(default_factory=dict)

    def place(self, row: Row) -> Place:
        """The place of a signal of an ordered model."""
        return self.places[row.ids[0] if row.ids else row.key]


def lock(session: Session, spec: SignalSpec, limit: int, choice: Choice, limits: BurstLimits) -> Locked:
    """Begin a transaction; lock and load up to ``limit`` of the chosen signals that nobody else has locked, in order.

    The planner settings of the scan may stay set: see :func:`~signalbus_core.sql.transaction.resetting_planner`.

    :raises sqlalchemy.exc.SQLAlchemyError: the database failed, and no single row is the cause.
    :raises BurstError: two rows have one key, or a key cannot be loaded.
    """
    try:
        connection, taken, places = _lock(session, spec, limit, choice, limits)
    except BaseException as error:
        if not _may_be_of_a_row(error, is_alone=limit == 1):
            raise
        session.rollback()
        return _by_halves(session, spec, limit, choice, limits, error)
    rows = _rows(spec, taken.loaded)
    signals = [signal for signal, _ in taken.loaded]
    keys = tuple(row.key for row in rows)
    return Locked(connection, keys, signals, rows, (), taken.is_cut, taken.lowest, taken.next_seconds, places)


def _lock(
    session: Session, spec: SignalSpec, limit: int, choice: Choice, limits: BurstLimits
) -> tuple[Connection, Taken, Mapping[Any, Place]]:
    bind = session.get_bind(spec.mapper)
    planner = FOLLOW_THE_INDEX if follows_index(bind.dialect, choice) else ()
    options = settings_option(bind, (*limits.settings, *planner))
    connection = begin(session, spec, None if options and spec.order is None else limits)
    if spec.order is not None:
        with _following_index(connection, choice):
            places, is_cut = take_in_order(connection, spec, limit, choice, MOST_BYTES)
        loaded = load_rows(session, spec, list(places)) if places else []
        _refuse_none(spec, loaded)
        if len(loaded) < len(places):
            seen = {row.ids[0] if row.ids else row.key for _, row in loaded}
            hidden = [one for one, place in places.items() if not place.number and one not in seen]
            is_passing = choice.ring is not None and choice.ring.passes(hidden)
            is_cut = is_passing or (is_cut and bool(loaded))
        return connection, Taken(loaded, is_cut, None), places
    with nullcontext() if options else _following_index(connection, choice):
        taken = take(session, spec, limit, choice, MOST_BYTES, options)
    _refuse_none(spec, taken.loaded)
    return connection, taken, {}


@contextmanager
def _following_index(connection: Connection, choice: Choice) -> Iterator[None]:
    """Make the scans in the block use the index of the key."""
    is_needed = follows_index(connection.dialect, choice)
    if is_needed:
        run_all(connection, FOLLOW_THE_INDEX)
    yield
    if is_needed:
        run_all(connection, DEFAULT_PLANNER)


def _may_be_of_a_row(error: BaseException, *, is_alone: bool = False) -> bool:
    """Whether a statement may have failed for the sake of a single row that it read.

    :param is_alone: it reads one row only, so that a time limit may be the fault of that row.
    """
    if is_away(error) or is_stop(error) or (is_late(error) and (not is_alone or is_locked(error))):
        return False
    # SQLAlchemy calls it an invalid request when a row does not tell its class.
    return isinstance(error, (DBAPIError, InvalidRequestError)) or not isinstance(error, SQLAlchemyError)


def _by_halves(
    session: Session, spec: SignalSpec, limit: int, choice: Choice, limits: BurstLimits, error: BaseException
) -> Locked:
    connection = begin(session, spec, limits)
    locked = _lock_by_halves(session, connection, spec, limit, choice)
    if locked.lost == limit:
        # None of the keys could be loaded, so lock further rows as well.
        locked = _lock_by_halves(session, connection, spec, limit + MOST_LOST, choice)
    if not locked.loaded and is_of_schema(error):
        # Most likely it fails for every row: an object or a privilege is missing.
        raise error
    if locked.lost:
        text = (
            f"The primary keys of {counted(locked.lost, f'signal of {spec.name}')} cannot be loaded ({_name(error)}), "
            f"and nothing is sent of these rows. Look in {spec.table.fullname!r} for a key that the model's "
            "type cannot take."
        )
        if not locked.keys:
            raise BurstError(text) from None
        logger.warning("%s", text, extra={"action": "keys_not_loaded", "signal": spec.name})
    loaded = locked.loaded[:limit]
    rows = _rows(spec, loaded)
    keys = (*(row.key for row in rows), *(one.key for one in locked.unreadable))
    in_order = tuple(key for key in locked.keys if key in set(keys))
    signals = [signal for signal, _ in loaded]
    return Locked(
        connection,
        in_order,
        signals,
        rows,
        tuple(locked.unreadable),
        locked.is_cut and bool(in_order),
        next(iter(in_order), None),
        places=locked.places,
    )


@dataclass
class _Found:
    """The signals that could be loaded, in order.

    :param lost: the number of rows whose keys cannot be loaded either.
    """

    loaded: _Loaded = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    unreadable: list[FailedSignal] = field(default_factory=list)
    lost: int = 0
    is_cut: bool = False
    places: Mapping[Any, Place] = field(default_factory=dict)


def _lock_by_halves(session: Session, connection: Connection, spec: SignalSpec, limit: int, choice: Choice) -> _Found:
    result = _Found()
    with _following_index(connection, choice):
        if spec.order is None:
            taken, result.is_cut = lock_rows(session, spec, limit, choice, MOST_BYTES)
        else:
            result.places, result.is_cut = take_in_order(connection, spec, limit, choice, MOST_BYTES)
            taken = list(result.places)
    for part, found, cause in loadable(session, connection, spec, taken, is_alone=limit == 1):
        if cause is None:
            result.loaded += found
            result.keys += [row.key for _, row in found]
            continue
        key = _key_alone(connection, spec, part)
        if key is None:
            result.lost += 1
            continue
        result.keys.append(key)
        # The error text may contain values of the row, and without a loaded signal they cannot be removed.
        reason = f"its row cannot be loaded ({_name(cause)})"
        row = part[0] if isinstance(part[0], str) else None
        result.unreadable.append(FailedSignal(key, Outcome(OutcomeKind.INVALID, reason), row=row))
    return result


def _key_alone(connection: Connection, spec: SignalSpec, taken: Sequence[Any]) -> Key | None:
    """The key of a row that cannot be loaded; None when the key cannot be loaded either."""
    try:
        with connection.begin_nested():
            [key] = keys_of_rows(connection, spec, taken)
    except BaseException as error:
        if not _may_be_of_a_row(error):
            raise
        return None
    return None if None in key else key


def loadable(
    session: Session, connection: Connection, spec: SignalSpec, taken: Sequence[Any], *, is_alone: bool = False
) -> Iterator[tuple[Sequence[Any], _Loaded, BaseException | None]]:
    """The rows in loadable parts, in order; a row that cannot be loaded is its own part, with the cause.

    :param is_alone: a time limit may be the fault of the row.
    """
    if not taken:
        return
    try:
        with connection.begin_nested():
            loaded = load_rows(session, spec, taken)
            _refuse_none(spec, loaded)
    except BaseException as error:
        if not _may_be_of_a_row(error, is_alone=is_alone):
            raise
        if len(taken) == 1:
            yield taken, [], error
            return
        half = len(taken) // 2
        yield from loadable(session, connection, spec, taken[:half])
        yield from loadable(session, connection, spec, taken[half:])
    else:
        yield taken, loaded, None


def _name(error: BaseException) -> str:
    """The class name of the error; of a wrapped one, that of the driver's error."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return type(cause).__name__


def _rows(spec: SignalSpec, loaded: _Loaded) -> tuple[Row, ...]:
    """The rows of signals, no two of which have one key.

    :raises BurstError: two have. SQLAlchemy maps both to one object: one would be sent twice, the other never.
    """
    rows = tuple([row for _, row in loaded])
    if len({row.key for row in rows}) < len(rows):
        seen: set[Key] = set()
        twice = next(row.key for row in rows if row.key in seen or seen.add(row.key))  # type: ignore[func-returns-value]
        shown = ", ".join(map(str, twice))
        raise BurstError(
            f"Two rows of {spec.table.fullname!r} have the same key ({shown}) as {spec.name} reads it, so that nothing "
            "of this burst was sent. Each row needs a key of its own: look for a table that inherits from this one, "
            "for a missing primary key, and for a type in the model that reads different keys as one."
        )
    return rows


def _refuse_none(spec: SignalSpec, loaded: _Loaded) -> None:
    if (None,) * len(spec.primary_key) in [row.key for _, row in loaded]:
        # SQLAlchemy creates no object for such a row.
        raise ValueError("the key of a row is read as None")


def detach(session: Session, spec: SignalSpec, signals: list[Any]) -> None:
    """Expunge the signals from the session, where they are instances.

    Detached, an instance keeps its loaded columns after the transaction, and changes to it are not written.
    """
    if not signals or spec.is_row(signals[0]):
        return
    if not session.deleted and set(map(id, session)) == set(map(id, signals)):
        # Nothing else is in the session; expunging all at once costs a tenth.
        session.expunge_all()
        return
    for signal in signals:
        if signal in session:
            session.expunge(signal)
