"""Separate sessions for bursts, and the transaction state of the caller's session. Bursts never use that session.

While a send method runs, ``db.session`` is the burst's own session. The caller's session may be in an atomic block, or
have uncommitted changes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from flask import Flask
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.util import ScopedRegistry

from .errors import TransactionStateError
from .failures import error_text, raise_if_stop
from .schema import catalog

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


logger = logging.getLogger("signalbus")

_MARK = "signalbus_burst"


class AtomicBlock:
    """An atomic block that is open in the present scope. A session that takes the place of a removed one belongs to it.

    :ivar is_open: whether the block runs. A context that was copied in the block, as that of a task, has it for ever.
    :ivar has_committed: whether its session has committed, or may have committed in part.
    """

    def __init__(self, scoped: scoped_session[Any]) -> None:
        self._scoped = scoped
        self._scope = _scope_of(scoped)
        self.is_open = True
        self.has_committed = False

    def has(self, session: Session) -> bool:
        scoped = self._scoped
        return self.is_open and _scope_of(scoped) == self._scope and scoped.registry.has() and scoped() is session


def _scope_of(scoped: scoped_session[Any]) -> object:
    return getattr(scoped.registry, "scopefunc", threading.get_ident)()


_blocks: ContextVar[tuple[AtomicBlock, ...]] = ContextVar("signalbus_blocks", default=())


@contextmanager
def atomic_block(scoped: scoped_session[Any]) -> Iterator[AtomicBlock]:
    """An open atomic block. Nested atomic blocks become part of it."""
    block = AtomicBlock(scoped)
    token = _blocks.set((*_blocks.get(), block))
    try:
        yield block
    finally:
        block.is_open = False
        _blocks.reset(token)


@contextmanager
def atomic_mark(session: Session) -> Iterator[None]:
    """Mark the session as that of a burst. Atomic blocks then become part of the burst."""
    session.info[_MARK] = True
    try:
        yield
    finally:
        session.info.pop(_MARK, None)


def in_atomic_block(session: Session) -> bool:
    """Whether an atomic block, or a burst, is open on the session."""
    return bool(session.info.get(_MARK)) or any(block.has(session) for block in _blocks.get())


_CONNECTIONS = "signalbus_connections"


@event.listens_for(Session, "after_begin")
def _note_connection(session: Session, _transaction: Any, connection: Connection) -> None:
    # Session.connection() would open a connection. So the open ones are recorded, and only those are queried.
    connections = session.info.setdefault(_CONNECTIONS, [])
    if connection not in connections:
        connections.append(connection)


@event.listens_for(Session, "after_transaction_end")
def _forget_connections(session: Session, transaction: Any) -> None:
    if transaction.parent is None:
        session.info.pop(_CONNECTIONS, None)


@event.listens_for(Session, "after_commit")
def _note_commit(session: Session) -> None:
    if not session.in_nested_transaction():
        _mark_committed(session)


def note_commit_in_parts(session: Session) -> None:
    """Must be called before a commit: with several databases, one may have committed when another one fails."""
    if len(engines_in_use(session)) > 1:
        _mark_committed(session)


def _mark_committed(session: Session) -> None:
    for block in _blocks.get():
        if block.has(session):
            block.has_committed = True


def engines_in_use(session: Session) -> set[Engine]:
    """The databases that the session's transaction has used so far."""
    return {connection.engine for connection in _connections(session)}


def _connections(session: Session) -> Iterable[Connection]:
    return cast("Iterable[Connection]", session.info.get(_CONNECTIONS, ()))


def has_open_changes(session: Session) -> bool:
    """Whether the session has uncommitted changes, flushed or not, including those of bulk statements.

    Only databases that the session's transaction has used are queried. On PostgreSQL a row lock counts as a change. An
    assignment of an equal value does not.

    :raises TransactionStateError: the transaction failed, and waits for a rollback.
    """
    if session.new or session.deleted or any(session.is_modified(instance) for instance in session.dirty):
        return True
    if not session.in_transaction():
        return False
    if not session.is_active:
        raise TransactionStateError(_BROKEN)
    try:
        return any(catalog.has_written(connection) for connection in _connections(session))
    except SQLAlchemyError as error:
        raise TransactionStateError(_BROKEN) from error


_BROKEN = "The transaction of db.session is broken. Roll back first."


@contextmanager
def own_session(db: SQLAlchemy, app: Flask) -> Iterator[Session]:
    """An application context in which ``db.session`` is a new session, which is closed at the end.

    The caller's session is not changed, and is ``db.session`` again at the end.
    """
    with _registry_of(db.session).separate_session() as separate, _context(app):
        yield separate.enter()


#: What is known to be raised by the teardown functions of applications.
_raised_in_teardown: WeakKeyDictionary[Flask, set[str]] = WeakKeyDictionary()


@contextmanager
def _context(app: Flask) -> Iterator[None]:
    """An application context. What its teardown functions raise is logged once: the work in the context is done."""
    context = app.app_context()
    context.push()
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        try:
            context.pop(error)
        except BaseException as raised:
            raise_if_stop(raised)
            text = error_text(raised)
            if text not in (known := _raised_in_teardown.setdefault(app, set())):
                known.add(text)
                logger.warning(
                    "A function of teardown_appcontext raised %s. What was done before it stays done, and this is "
                    "not logged again.",
                    text,
                    extra={"action": "teardown_failed"},
                    exc_info=raised,
                )


class _SeparateSession:
    """A separate session for one scope of its thread."""

    def __init__(self, registry: _Registry) -> None:
        self._registry = registry
        self._scope: object = None
        self._is_entered = False
        self.session: Session | None = None

    def enter(self) -> Session:
        """Use the separate session in the current scope."""
        self._scope, self._is_entered = self._registry.scopefunc(), True
        self.session = self.create()
        return self.session

    def leave(self) -> None:
        """End its use, also in contexts that were copied meanwhile, as those of tasks are."""
        self._is_entered = False
        if self.session is not None:
            self.session.close()

    def create(self) -> Session:
        session = cast(Session, self._registry.createfunc())
        # One database is written to, and PREPARE TRANSACTION needs a server that is configured for it.
        session.twophase = False
        # Whatever the application's sessions need before a statement.
        session.autobegin = True
        return session

    def is_in_scope(self) -> bool:
        # A send method may enter another application context, which may be another scope.
        return self._is_entered and self._registry.scopefunc() == self._scope


class _Registry(ScopedRegistry[Any]):
    """The registry of a ``scoped_session``, in which separate sessions take precedence over the application's."""

    __slots__ = ("_separate", "_usual")

    def __init__(self, usual: ScopedRegistry[Any]) -> None:
        self._usual = usual
        self.createfunc = usual.createfunc
        self.scopefunc = getattr(usual, "scopefunc", threading.get_ident)
        self.registry = usual.registry
        self._separate: ContextVar[_SeparateSession | None] = ContextVar("signalbus_session", default=None)

    @contextmanager
    def separate_session(self) -> Iterator[_SeparateSession]:
        separate = _SeparateSession(self)
        token = self._separate.set(separate)
        try:
            yield separate
        finally:
            # Only now, so that the application's teardown functions also get this session.
            self._separate.reset(token)
            separate.leave()

    def _here(self) -> _SeparateSession | None:
        separate = self._separate.get()
        return separate if separate is not None and separate.is_in_scope() else None

    def __call__(self) -> Any:
        separate = self._here()
        if separate is None:
            return self._usual()
        if separate.session is None:
            # The session was removed by session.remove().
            separate.session = separate.create()
        return separate.session

    def has(self) -> bool:
        separate = self._here()
        return self._usual.has() if separate is None else separate.session is not None

    def set(self, obj: Any) -> None:
        separate = self._here()
        if separate is None:
            self._usual.set(obj)
        else:
            separate.session = obj

    def clear(self) -> None:
        separate = self._here()
        if separate is None:
            self._usual.clear()
        else:
            separate.session = None


_installing = threading.Lock()


def _registry_of(session: scoped_session[Any]) -> _Registry:
    with _installing:
        if not isinstance(session.registry, _Registry):
            session.registry = _Registry(session.registry)
        return session.registry
