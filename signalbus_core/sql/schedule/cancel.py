"""Cancels a signal: deletes its row in the caller's transaction, unless it is being sent. It never waits."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult, literal, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.orm import InstanceState, Session

from ...errors import SignalModelError
from ...model.contract import SignalSpec
from ..keys import has_key


def cancel(session: Session, spec: SignalSpec, signal: Any) -> bool:
    """Delete the row of a signal, if nobody has it locked; return whether it was there and is deleted."""
    state = cast("InstanceState[Any]", sqlalchemy_inspect(signal))
    if state.pending and signal in session:
        session.flush()
    if state.identity is None:
        raise SignalModelError(
            f"This {spec.name} was never written: it has no row that could be deleted. Add it to the session, or load "
            "it, before you cancel it."
        )
    by = {"mapper": spec.mapper}
    connection = session.connection(bind_arguments=by)
    here = has_key(spec, connection.dialect, [tuple(state.identity)])
    # Locked first: a DELETE would wait for the burst that sends it.
    free = select(literal(1)).select_from(spec.table).where(here, *spec.is_signal).with_for_update(skip_locked=True)
    if connection.scalar(free) is None:
        return False
    deleted = cast("CursorResult[Any]", connection.execute(sql_delete(spec.table).where(here)))
    if signal in session:
        session.expunge(signal)
    return deleted.rowcount > 0
