"""Atomic blocks of an application: committed when they return, and executed again when they lose a race."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstanceState, Session

from ..errors import DBSerializationError, SetupError, TransactionStateError
from ..extension import DatabaseMixin
from ..failures import discard_unfinished
from ..sessions import AtomicBlock, atomic_block, has_open_changes, in_atomic_block
from .objects import commit_and_expunge, load_again, what_is_loaded
from .retry import retry_on_race

if TYPE_CHECKING:
    from flask import Flask


P = ParamSpec("P")
T = TypeVar("T")

#: The isolation level of connections, unless the application configures one. A block sees one snapshot of the database,
#: and of two concurrent blocks that change the same rows, one fails.
DEFAULT_ISOLATION_LEVEL = "REPEATABLE READ"


class AtomicProceduresMixin(DatabaseMixin):
    """Adds atomic blocks to Flask-SQLAlchemy; put it before ``SQLAlchemy``.

    ::

        class Database(AtomicProceduresMixin, SignalBusMixin, SQLAlchemy):
            pass

        db = Database()

        @db.atomic
        def place_order(item): ...

    Connections use the isolation level REPEATABLE READ, unless the application configures another one: for all
    databases by the argument ``engine_options``, for the default one by ``SQLALCHEMY_ENGINE_OPTIONS``, for a bind in
    ``SQLALCHEMY_BINDS``. Databases without this level (SQLite) are not changed.

    :param engine_options: as for ``SQLAlchemy``.
    :raises SetupError: the mixin comes after ``SQLAlchemy``, or without it.
    """

    def __init__(self, *args: Any, engine_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.__engine_options = engine_options or {}
        super().__init__(*args, engine_options=engine_options, **kwargs)

    def init_app(self, app: Flask) -> None:
        """Initialize the application, as ``SQLAlchemy.init_app`` does."""
        super().init_app(app)  # type: ignore[misc]
        with app.app_context():
            engines = cast("Mapping[str | None, Any]", cast(Any, self).engines)
            for bind_key, engine in engines.items():
                if engine.dialect.name != "sqlite" and not self.__has_isolation_level(app, bind_key):
                    engine.update_execution_options(isolation_level=DEFAULT_ISOLATION_LEVEL)

    def __has_isolation_level(self, app: Flask, bind_key: str | None) -> bool:
        """Whether the application configures the isolation level of this engine."""
        own = (app.config.get("SQLALCHEMY_BINDS") or {}).get(bind_key)
        sources = [
            self.__engine_options,
            (app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}) if bind_key is None else {},
            own if isinstance(own, Mapping) else {},
        ]
        return any(
            "isolation_level" in options or "isolation_level" in (options.get("execution_options") or {})
            for options in sources
        )

    def atomic(self, func: Callable[P, T]) -> Callable[P, T]:
        """Make each call of a function an atomic block.

        1. It continues the open transaction of ``db.session``: earlier row locks are kept.
        2. When it returns, everything that was done through ``db.session`` is committed, including what was done before
           the block.
        3. When it raises any error, everything is rolled back.
        4. When it lost a race with another transaction, it is executed again in a new transaction, up to a bound; then
           the error is raised.
        5. All objects are expunged from the session at the commit, including those that were read before the block, so
           that they can still be read.
        6. Inside another atomic block it is only a part of that block. Inside a send method it is part of the burst's
           transaction.

        Put advisory locks, table locks and ``SET LOCAL`` into the block: those from before it do not hold when it is
        executed again.

        :raises DBSerializationError: it lost a race and cannot be executed again, because changes or row locks made
          before it would be lost, or changes committed in it would be repeated. The race is the cause.
        :raises SetupError: the function is a generator or a coroutine, or returns one.
        """

        _refuse_unfinished(func)

        @wraps(func)
        def execute(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.execute_atomic(lambda: func(*args, **kwargs))

        return execute

    def execute_atomic(self, func: Callable[[], T]) -> T:
        """Execute a function without arguments as an atomic block, once, and return what it returns.

        As a decorator it runs the function at once and binds its result to the name::

            @db.execute_atomic
            def order_id():
                ...
                return order.id
        """
        _refuse_unfinished(func)
        session = self.__session()
        if in_atomic_block(session):
            return _finished(func())
        with atomic_block(cast(Any, self).session) as block:
            return self.__execute(session, block, func)

    def __execute(self, session: Session, block: AtomicBlock, func: Callable[[], T]) -> T:
        try:
            had_changes = has_open_changes(session)
        except BaseException:
            session.rollback()
            raise
        loaded = what_is_loaded(session)
        return retry_on_race(
            lambda: self.__execute_once(func, loaded),
            may_repeat=lambda: not (had_changes or block.has_committed),
        )

    def __execute_once(self, func: Callable[[], T], loaded: Mapping[InstanceState[Any], Collection[str]]) -> T:
        try:
            result = _finished(func())
            # The function may have removed the session that it began with.
            session = self.__session()
            session.flush()
            commit_and_expunge(session, keep=load_again(session, loaded))
        except BaseException:
            self.__session().rollback()
            raise
        return result

    @contextmanager
    def retry_on_integrity_error(self) -> Iterator[None]:
        """Execute the atomic block again when the changes in this context violate a constraint.

        For "insert if missing": when another transaction was faster, the second execution finds its row. The session is
        flushed when the context is entered and when it is left, so that only changes made inside count.

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


def _refuse_unfinished(func: Callable[..., object]) -> None:
    if any(kind(func) for kind in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
        raise SetupError(
            f"The code of {func} runs after the atomic block has ended, as that of all generators and coroutines does. "
            "Make it a plain function, or put the block into it."
        )


def _finished(returned: T) -> T:
    """What a block has returned, once its code has run. A decorator may hide that the function is a generator."""
    code = getattr(returned, "gi_code", None) or getattr(returned, "cr_code", None)
    # A generator expression may read what the block has loaded; a task runs by itself.
    if (code is not None and code.co_name != "<genexpr>") or hasattr(returned, "ag_code"):
        kind = discard_unfinished(returned)
        raise SetupError(f"The atomic block returned a {kind}, so its code has not run. Make it a plain function.")
    return returned
