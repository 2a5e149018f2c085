"""Atomic blocks: functions whose changes are committed together, or not at all.

A block that lost a race with another transaction is executed again. So it must not do anything that a rollback does
not undo; what has to leave the database is written as a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .errors import DBSerializationError, TransactionStateError
from .retry import retry_on_race
from .session_state import has_open_changes, in_atomic_block, mark_atomic_block

if TYPE_CHECKING:
    from flask import Flask

P = ParamSpec("P")
T = TypeVar("T")

#: The isolation level of connections, unless the application configures one. A block sees one state of the database,
#: and two blocks that change the same rows cannot both succeed on what they have read.
DEFAULT_ISOLATION_LEVEL = "REPEATABLE READ"


class AtomicProceduresMixin:
    """Adds atomic blocks to Flask-SQLAlchemy; put it before ``SQLAlchemy``.

    ::

        class Database(AtomicProceduresMixin, SignalBusMixin, SQLAlchemy):
            pass

        db = Database()

        @db.atomic
        def place_order(item): ...

    Connections work at isolation level REPEATABLE READ, unless the application configures another one, by the
    argument ``engine_options``, by ``SQLALCHEMY_ENGINE_OPTIONS``, or for a bind in ``SQLALCHEMY_BINDS``. Databases that
    lack it (SQLite) are left alone.

    :param engine_options: as for ``SQLAlchemy``.
    """

    def __init__(self, *args: Any, engine_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.__engine_options = engine_options or {}
        super().__init__(*args, engine_options=engine_options, **kwargs)  # type: ignore[call-arg]

    def init_app(self, app: Flask) -> None:
        """Initialize the application, as ``SQLAlchemy.init_app`` does."""
        super().init_app(app)  # type: ignore[misc]
        with app.app_context():
            engines = cast("Mapping[str | None, Any]", cast(Any, self).engines)
            for bind_key, engine in engines.items():
                if engine.dialect.name != "sqlite" and not self.__has_isolation_level(app, bind_key, engine):
                    engine.update_execution_options(isolation_level=DEFAULT_ISOLATION_LEVEL)

    def __has_isolation_level(self, app: Flask, bind_key: str | None, engine: Any) -> bool:
        """Whether the application says which isolation level it wants for this engine."""
        own = (app.config.get("SQLALCHEMY_BINDS") or {}).get(bind_key)
        sources = [
            self.__engine_options,
            app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {},
            own if isinstance(own, Mapping) else {},
        ]
        return any(
            "isolation_level" in options or "isolation_level" in (options.get("execution_options") or {})
            for options in sources
        )

    def atomic(self, func: Callable[P, T]) -> Callable[P, T]:
        """Make a function an atomic block, each time that it is called.

        1. When it returns, everything that it did through ``db.session`` is committed.
        2. When it raises, whatever it raises, everything is rolled back.
        3. When it lost a race with another transaction, it is executed again, up to a bound; then the error is raised.
        4. All objects are expunged from the session before the commit, so that they can be read after it.
        5. Inside another atomic block it does nothing of this: it is part of that block.

        :raises TransactionStateError: called while ``db.session`` has changes of its own; they would be committed or
          rolled back, and on a second try be lost.
        """

        @wraps(func)
        def execute(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.execute_atomic(lambda: func(*args, **kwargs))

        return execute

    def execute_atomic(self, func: Callable[[], T]) -> T:
        """Execute a function without arguments as an atomic block, once, and return what it returns.

        As a decorator it runs the function on the spot and binds its result to the name::

            @db.execute_atomic
            def order_id():
                ...
                return order.id
        """
        session = self.__session()
        if in_atomic_block(session):
            return func()
        if has_open_changes(session, cast(Any, self).engines.values()):
            raise TransactionStateError(
                "An atomic block was entered while db.session has uncommitted changes. Commit or roll back first, or "
                "make these changes inside the block."
            )
        mark_atomic_block(session, is_open=True)
        try:
            return retry_on_race(lambda: _execute_once(session, func))
        finally:
            mark_atomic_block(session, is_open=False)

    @contextmanager
    def retry_on_integrity_error(self) -> Iterator[None]:
        """Execute the atomic block again when the changes in this context violate a constraint.

        For "insert it, if nobody has": when another transaction was faster, the second execution finds its row. The
        session is flushed when the context is entered and when it is left, so that only changes made inside count.

        :raises TransactionStateError: not inside an atomic block.
        """
        session = self.__session()
        if not in_atomic_block(session):
            raise TransactionStateError("retry_on_integrity_error() works only inside an atomic block.")
        session.flush()
        try:
            yield
            session.flush()
        except IntegrityError as error:
            raise DBSerializationError("A constraint was violated; the atomic block is executed again.") from error

    def __session(self) -> Session:
        return cast(Session, cast(Any, self).session())


def _execute_once(session: Session, func: Callable[[], T]) -> T:
    # What was read before the block belongs to another snapshot.
    session.rollback()
    try:
        result = func()
        session.flush()
        # A commit expires what is in the session; expunged, objects keep the values that they have.
        session.expunge_all()
        session.commit()
    except BaseException:
        session.rollback()
        raise
    return result
