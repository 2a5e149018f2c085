"""What the application's own session is in the middle of: an atomic block, or changes that are not committed."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from . import inspection
from .errors import TransactionStateError

_ATOMIC_MARK = "signalbus_atomic"


def in_atomic_block(session: Session) -> bool:
    """Whether an atomic block is open on the session."""
    return bool(session.info.get(_ATOMIC_MARK))


def mark_atomic_block(session: Session, *, is_open: bool) -> None:
    """Note that an atomic block was entered or left."""
    session.info[_ATOMIC_MARK] = is_open


def has_open_changes(session: Session, engines: Iterable[Engine]) -> bool:
    """Whether the session has changes that are not committed, flushed or not, also by bulk statements.

    :param engines: the databases to ask.
    :raises TransactionStateError: the transaction failed, and waits for a rollback.
    """
    if session.new or session.dirty or session.deleted:
        return True
    if not session.in_transaction():
        return False
    try:
        return any(inspection.has_written(session.connection(bind_arguments={"bind": engine})) for engine in engines)
    except SQLAlchemyError as error:
        raise TransactionStateError("The transaction of db.session is broken. Roll back first.") from error
