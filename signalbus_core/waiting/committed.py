"""Which signal a request may wait for: one that is committed, in a session that has nothing else to commit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, object_session

from ..errors import TransactionStateError
from ..model.contract import SignalSpec
from ..schema.signal_id import SIGNAL_ID, has_signal_id
from ..sessions import has_open_changes, in_atomic_block
from ..sql.keys import Key


def committed(signal: Any, spec: SignalSpec, scoped: Session) -> tuple[Key, Any]:
    """The key of a committed signal, and its ``signalbus_id`` where that is loaded. No statement loads them.

    :param scoped: the session of the application in the present scope; the signal may be of another one.
    :raises TransactionStateError: the signal is not committed, or may not be: to wait for it would take for ever.
    """
    state: Any = sqlalchemy_inspect(signal)
    # Each is asked once: that may be a question to the database.
    for session in dict.fromkeys((scoped, object_session(signal))):
        if session is not None:
            _refuse_open(session, spec)
    if state.key is None:
        raise TransactionStateError(f"wait_sent(): this {spec.name} has not been committed, so nobody sends it.")
    return state.key[1], state.dict.get(SIGNAL_ID) if has_signal_id(spec.mapper) else None


def _refuse_open(session: Session, spec: SignalSpec) -> None:
    if isinstance(session.get_bind(spec.mapper), Connection):
        raise TransactionStateError(
            "wait_sent() was called while the session is bound to a connection, as in tests that roll back an outer "
            "transaction. A commit of the session commits nothing then, so nobody sends the signal."
        )
    if in_atomic_block(session):
        raise TransactionStateError("wait_sent() was called inside an atomic block or a send method.")
    if has_open_changes(session):
        raise TransactionStateError(
            "wait_sent() was called while the session has uncommitted changes. Commit first: only committed signals "
            "are sent."
        )
