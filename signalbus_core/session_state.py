"""What the application's own session is in the middle of: an atomic block, or changes that are not committed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from . import inspection
from .atomic_mark import in_atomic_block
from .errors import TransactionStateError

_CONNECTIONS = "signalbus_connections"
_COMMITTED_MARK = "signalbus_committed"


@event.listens_for(Session, "after_begin")
def _note_connection(session: Session, _transaction: Any, connection: Connection) -> None:
    # A session names no connection without making one. Those that it has are asked; a database that is away is not.
    connections = session.info.setdefault(_CONNECTIONS, [])
    if connection not in connections:
        connections.append(connection)


@event.listens_for(Session, "after_transaction_end")
def _forget_connections(session: Session, transaction: Any) -> None:
    if transaction.parent is None:
        session.info.pop(_CONNECTIONS, None)


@event.listens_for(Session, "after_commit")
def _note_commit(session: Session) -> None:
    if in_atomic_block(session) and not session.in_nested_transaction():
        session.info[_COMMITTED_MARK] = True


def forget_commits(session: Session) -> None:
    """Call it when an atomic block is entered."""
    session.info[_COMMITTED_MARK] = False


def has_committed_in_block(session: Session) -> bool:
    """Whether the session has committed since the open atomic block was entered, or may have done so in part."""
    return bool(session.info.get(_COMMITTED_MARK))


def note_commit_in_parts(session: Session) -> None:
    """Call it before a commit: of several databases, one may have committed when another one fails."""
    if len(engines_in_use(session)) > 1:
        session.info[_COMMITTED_MARK] = True


def engines_in_use(session: Session) -> set[Engine]:
    """The databases that the session's transaction has used so far."""
    return {connection.engine for connection in _connections(session)}


def _connections(session: Session) -> Iterable[Connection]:
    return cast("Iterable[Connection]", session.info.get(_CONNECTIONS, ()))


def has_open_changes(session: Session) -> bool:
    """Whether the session has changes that are not committed, flushed or not, also by bulk statements.

    Only databases that the session's transaction has used are asked. On PostgreSQL a row lock counts as a change. An
    object that was given the value that it had does not.

    :raises TransactionStateError: the transaction failed, and waits for a rollback.
    """
    if session.new or session.deleted or any(session.is_modified(instance) for instance in session.dirty):
        return True
    if not session.in_transaction():
        return False
    if not session.is_active:
        raise TransactionStateError(_BROKEN)
    try:
        return any(inspection.has_written(connection) for connection in _connections(session))
    except SQLAlchemyError as error:
        raise TransactionStateError(_BROKEN) from error


_BROKEN = "The transaction of db.session is broken. Roll back first."
