"""The first step of a burst: its signals are locked and loaded. One that cannot be loaded holds up no other.

A row can fail the statement that loads it: in the server, where a column of the model is computed from it, and in
Python, where a type cannot take what a column holds. Then the rows are locked by nothing but their ids, and loaded by
halves, until those to blame are alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from . import statements
from .contract import SignalSpec
from .errors import BurstError
from .in_order import FOLLOW_THE_INDEX, PLAN_AS_USUAL
from .keys import Key
from .outcome import Outcome, OutcomeKind
from .result import FailedSignal
from .rows import Row
from .statements import BurstLimits, Choice
from .trouble import is_away, is_late, is_of_schema


@dataclass(frozen=True)
class Locked:
    """What a burst has locked.

    :param connection: of the transaction that has the locks.
    :param keys: of all signals, in order.
    :param signals: those that could be loaded.
    :param rows: the row of each of them, in their order.
    :param unreadable: those whose rows cannot be loaded.
    """

    connection: Connection
    keys: tuple[Key, ...] = ()
    signals: list[Any] = field(default_factory=list)
    rows: tuple[Row, ...] = ()
    unreadable: tuple[FailedSignal, ...] = ()


def lock(session: Session, spec: SignalSpec, limit: int, choice: Choice, limits: BurstLimits) -> Locked:
    """Begin a transaction; lock and load up to ``limit`` of the chosen signals that nobody else has locked, in order.

    What is set for the scan may hold on: see :func:`~signalbus_core.first_statement.undone_for_others`.

    :raises sqlalchemy.exc.SQLAlchemyError: the database failed, and not for the sake of a row.
    :raises BurstError: two rows have one key, or a key cannot be loaded.
    """
    try:
        connection, loaded = _lock(session, spec, limit, choice, limits)
    except Exception as error:
        if not _may_be_of_a_row(error):
            raise
        session.rollback()
        return _by_halves(session, spec, limit, choice, limits, error)
    rows = _rows(spec, loaded)
    return Locked(connection, tuple(row.key for row in rows), [signal for signal, _ in loaded], rows)


def _lock(
    session: Session, spec: SignalSpec, limit: int, choice: Choice, limits: BurstLimits
) -> tuple[Connection, list[tuple[Any, str | None]]]:
    said_first = statements.limits_to_say_first(session, spec, limits)
    connection = statements.begin(session, spec, None if said_first else limits)
    with _following_index(connection, choice, is_said=said_first is not None):
        return connection, statements.lock_signals(session, spec, limit, choice, said_first)


@contextmanager
def _following_index(connection: Connection, choice: Choice, *, is_said: bool) -> Iterator[None]:
    """Have the scan follow the index of the key, unless that is said with its statement."""
    is_needed = not is_said and statements.follows_index(connection.dialect, choice)
    if is_needed:
        statements.run_all(connection, FOLLOW_THE_INDEX)
    yield
    if is_needed:
        statements.run_all(connection, PLAN_AS_USUAL)


def _may_be_of_a_row(error: Exception) -> bool:
    """Whether a statement may have failed for the sake of a single row that it read."""
    if isinstance(error, DBAPIError):
        return not (is_away(error) or is_late(error) or is_of_schema(error))
    return not isinstance(error, SQLAlchemyError)


def _by_halves(
    session: Session, spec: SignalSpec, limit: int, choice: Choice, limits: BurstLimits, error: Exception
) -> Locked:
    connection = statements.begin(session, spec, limits)
    with _following_index(connection, choice, is_said=False):
        taken = statements.lock_rows(connection, spec, limit, choice)
    loaded: list[tuple[Any, str | None]] = []
    keys: list[Key] = []
    unreadable: list[FailedSignal] = []
    has_lost_key = False
    for part, cause in _loadable(session, connection, spec, taken):
        if cause is None:
            found = statements.load_rows(session, spec, part)
            loaded += found
            keys += [key_of(signal) for signal, _ in found]
            continue
        try:
            with connection.begin_nested():
                [key] = statements.keys_of_rows(connection, spec, part)
        except Exception as lost:
            if isinstance(lost, SQLAlchemyError) and not _may_be_of_a_row(lost):
                raise
            has_lost_key = True
            continue
        keys.append(key)
        # The text of the error may hold what the row holds, and there is no signal to compare it with.
        reason = f"its row cannot be loaded ({cause})"
        unreadable.append(FailedSignal(key, Outcome(OutcomeKind.INVALID, reason)))
    if has_lost_key and not keys:
        # Without its key, nobody can tell which row it is. Nor is the value told, which the error may hold.
        raise BurstError(
            f"The primary key of a signal of {spec.name} cannot be loaded ({_name(error)}), and nothing behind it is "
            f"sent. Look in {spec.table.fullname!r} for a key that the model's type cannot take."
        ) from None
    return Locked(connection, tuple(keys), [signal for signal, _ in loaded], _rows(spec, loaded), tuple(unreadable))


def _loadable(
    session: Session, connection: Connection, spec: SignalSpec, taken: Sequence[Any]
) -> Iterator[tuple[Sequence[Any], str | None]]:
    """The rows in parts that can be loaded, in their order; one that cannot is a part of its own, with the cause."""
    if not taken:
        return
    try:
        with connection.begin_nested():
            statements.load_rows(session, spec, taken)
    except Exception as error:
        if not _may_be_of_a_row(error):
            raise
        if len(taken) == 1:
            yield taken, _name(error)
            return
        half = len(taken) // 2
        yield from _loadable(session, connection, spec, taken[:half])
        yield from _loadable(session, connection, spec, taken[half:])
    else:
        yield taken, None


def _name(error: Exception) -> str:
    """What kind of error it is: the driver tells more than its wrapper."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return type(cause).__name__


def _rows(spec: SignalSpec, loaded: Sequence[tuple[Any, str | None]]) -> tuple[Row, ...]:
    """The rows of signals, no two of which have one key.

    :raises BurstError: two have. They are one object to SQLAlchemy: one of them would be sent twice, the other never.
    """
    rows = tuple(Row(key_of(signal), () if found is None else (found,)) for signal, found in loaded)
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


def key_of(signal: Any) -> Key:
    if signal is None:
        # A key that Python reads as None makes no object.
        raise ValueError("the key of a row is read as None")
    state: Any = instance_state(signal)
    return cast(Key, state.key[1])


def detach(session: Session, signals: list[Any]) -> None:
    """Take the signals out of the session.

    Detached, an instance keeps its loaded columns after the transaction, and changes to it are not written.
    """
    if not session.deleted and set(map(id, session)) == set(map(id, signals)):
        # Nothing else is in the session: all at once costs a tenth of one by one.
        session.expunge_all()
        return
    for signal in signals:
        if signal in session:
            session.expunge(signal)
