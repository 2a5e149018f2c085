"""A session of the bus's own, which the send methods see as ``db.session``, whatever scope the application has chosen.

Flask-SQLAlchemy gives each application context a session of its own, unless ``session_options`` has a ``scopefunc``:
then another context, or another thread, may have the session of the caller. Here ``db.session`` is another one for the
thread that asks, in the scope in which it asks, and for nobody else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from flask import Flask
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.util import ScopedRegistry

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


@contextmanager
def own_session(db: SQLAlchemy, app: Flask) -> Iterator[Session]:
    """An application context in which ``db.session`` is a new session, which is closed at the end.

    What the caller's session holds stays as it is, and ``db.session`` is that session again at the end.
    """
    with _registry_of(db.session).set_apart() as apart, app.app_context():
        yield apart.enter()


class _Apart:
    """A session that is set apart: for one scope of its thread."""

    def __init__(self, registry: _Registry) -> None:
        self._registry = registry
        self._scope: object = None
        self._is_entered = False
        self.session: Session | None = None

    def enter(self) -> Session:
        """Set the session apart for the present scope."""
        self._scope, self._is_entered = self._registry.scopefunc(), True
        self.session = cast(Session, self._registry.createfunc())
        return self.session

    def is_in_scope(self) -> bool:
        # A send method may enter an application context of its own, which may be another scope.
        return self._is_entered and self._registry.scopefunc() == self._scope


class _Registry(ScopedRegistry[Any]):
    """The registry of a ``scoped_session``, with sessions that are set apart before those of the application."""

    __slots__ = ("_apart", "_usual")

    def __init__(self, usual: ScopedRegistry[Any]) -> None:
        self._usual = usual
        self.createfunc = usual.createfunc
        self.scopefunc = getattr(usual, "scopefunc", threading.get_ident)
        self.registry = usual.registry
        self._apart: ContextVar[_Apart | None] = ContextVar("signalbus_session", default=None)

    @contextmanager
    def set_apart(self) -> Iterator[_Apart]:
        apart = _Apart(self)
        token = self._apart.set(apart)
        try:
            yield apart
        finally:
            # Only now: what the application does at the end of its context is done to this session as well.
            self._apart.reset(token)
            if apart.session is not None:
                apart.session.close()

    def _here(self) -> _Apart | None:
        apart = self._apart.get()
        return apart if apart is not None and apart.is_in_scope() else None

    def __call__(self) -> Any:
        apart = self._here()
        if apart is None:
            return self._usual()
        if apart.session is None:
            # It was removed.
            apart.session = self.createfunc()
        return apart.session

    def has(self) -> bool:
        apart = self._here()
        return self._usual.has() if apart is None else apart.session is not None

    def set(self, obj: Any) -> None:
        apart = self._here()
        if apart is None:
            self._usual.set(obj)
        else:
            apart.session = obj

    def clear(self) -> None:
        apart = self._here()
        if apart is None:
            self._usual.clear()
        else:
            apart.session = None


_installing = threading.Lock()


def _registry_of(session: scoped_session[Any]) -> _Registry:
    with _installing:
        if not isinstance(session.registry, _Registry):
            session.registry = _Registry(session.registry)
        return session.registry
