"""The first step of a burst: its signals are locked and loaded. One that cannot be loaded holds up no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from . import statements
from .contract import SignalSpec
from .errors import BurstError
from .in_order import FOLLOW_THE_INDEX, PLAN_AS_USUAL
from .keys import Key
from .outcome import Outcome, OutcomeKind
from .result import FailedSignal
from .statements import Choice, Writer


@dataclass(frozen=True)
class Locked:
    """What a burst has locked.

    :param signals: those that could be loaded.
    :param signal_keys: the key of each of them, in their order.
    :param writers: the transactions that wrote them.
    :param unreadable: those whose columns hold what the model cannot take.
    """

    keys: tuple[Key, ...]
    signals: list[Any]
    signal_keys: tuple[Key, ...]
    writers: frozenset[Writer] = frozenset()
    unreadable: tuple[FailedSignal, ...] = ()


def lock(
    session: Session, connection: Connection, spec: SignalSpec, limit: int, choice: Choice, limits: str | None = None
) -> Locked:
    """Lock and load up to ``limit`` of the chosen signals that nobody else has locked, lowest keys first.

    :param limits: time limits of the transaction, when this is to set them. What else is set with them holds on: see
      :func:`~signalbus_core.first_statement.undone_for_others`.
    :raises sqlalchemy.exc.SQLAlchemyError: the database failed.
    :raises BurstError: a key cannot be loaded.
    """
    if limits is not None or not statements.follows_index(connection.dialect, choice):
        return _lock(session, connection, spec, limit, choice, limits)
    statements.run_all(connection, FOLLOW_THE_INDEX)
    locked = _lock(session, connection, spec, limit, choice, limits)
    statements.run_all(connection, PLAN_AS_USUAL)
    return locked


def _lock(
    session: Session, connection: Connection, spec: SignalSpec, limit: int, choice: Choice, limits: str | None
) -> Locked:
    try:
        loaded = statements.lock_signals(session, spec, limit, choice, limits)
    except SQLAlchemyError:
        raise
    except Exception:  # noqa: BLE001 - the types of the application's columns may raise anything
        return _one_by_one(session, connection, spec, limit, choice)
    signals = [signal for signal, _ in loaded]
    found = tuple(map(key_of, signals))
    return Locked(found, signals, found, frozenset(writer for _, writer in loaded))


def _one_by_one(session: Session, connection: Connection, spec: SignalSpec, limit: int, choice: Choice) -> Locked:
    """One row that cannot be loaded must not hold up the others."""
    try:
        keys = tuple(statements.lock_keys(connection, spec, limit, choice))
    except SQLAlchemyError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        # Without its key, nobody can tell which row it is. Nor is the value told, which the error may hold.
        raise BurstError(
            f"The primary key of a signal of {spec.name} cannot be loaded ({type(error).__name__}), and nothing behind "
            f"it is sent. Look in {spec.table.fullname!r} for a key that the model's type cannot take."
        ) from None
    loaded: list[tuple[Any, Writer]] = []
    unreadable: list[FailedSignal] = []
    for key in keys:
        try:
            loaded += statements.lock_signals(session, spec, 1, Choice(only=(key,)))
        except SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            # The text of the error may hold what the column holds, and there is no signal to compare it with.
            reason = f"its row cannot be loaded ({type(error).__name__})"
            unreadable.append(FailedSignal(key, Outcome(OutcomeKind.INVALID, reason)))
    signals = [signal for signal, _ in loaded]
    writers = frozenset(writer for _, writer in loaded)
    return Locked(keys, signals, tuple(map(key_of, signals)), writers, tuple(unreadable))


def key_of(signal: Any) -> Key:
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
