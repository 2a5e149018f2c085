"""Runs a transaction again after a serialization failure or a deadlock, and atomic blocks built on that.

A transaction is repeated only if all of it was rolled back. The retry loop knows no session: what is run, and how to
wait, are arguments.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError
from sqlalchemy.orm import InstanceState, Mapper, Session

from ..errors import DBSerializationError, SetupError, TransactionStateError
from ..extension import DatabaseMixin
from ..failures import discard_unfinished, sqlstate
from ..sessions import (
    AtomicBlock,
    atomic_block,
    engines_in_use,
    has_open_changes,
    in_atomic_block,
    note_commit_in_parts,
)

if TYPE_CHECKING:
    from flask import Flask


T = TypeVar("T")

#: SQLSTATE of a serialization failure and of a deadlock.
#: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
RACE_CODES = frozenset({"40001", "40P01"})

#: How often a transaction is tried in all. More: transactions on contended rows succeed later instead of failing.
MOST_TRIES = 16

#: The longest wait before the second try; it doubles with each further try.
FIRST_WAIT_SECONDS = 0.01

#: The longest wait before any try.
LONGEST_WAIT_SECONDS = 1.0


def is_race(error: BaseException) -> bool:
    """Whether a transaction failed only because of a concurrent one."""
    if isinstance(error, DBSerializationError):
        return True
    return isinstance(error, DBAPIError) and sqlstate(error) in RACE_CODES


def retry_on_race(
    transaction: Callable[[], T],
    *,
    tries: int = MOST_TRIES,
    may_repeat: Callable[[], bool] = lambda: True,
    wait: Callable[[float], object] | None = None,
    uniform: Callable[[float, float], float] = random.uniform,
) -> T:
    """Run ``transaction`` until it does not lose a race; return what it returns.

    It waits between tries, with exponential backoff and jitter, so that the same transactions do not collide again.

    :param transaction: must leave no effects when it raises.
    :param tries: how often to try in all.
    :param may_repeat: called after a lost race; returns whether to try again.
    :param wait: waits for a number of seconds.
    :raises DBSerializationError: a race was lost, and no further try is allowed.
    :raises Exception: the error of the last try, or the first error that is not a race.
    """
    wait = wait or threading.Event().wait
    for number in range(1, tries):
        try:
            return transaction()
        except Exception as error:
            if not is_race(error):
                raise
            if not may_repeat():
                raise DBSerializationError(
                    "The transaction lost a race. Executing it again would leave out what was changed or locked before "
                    "it began, or repeat what it committed itself."
                ) from error
        wait(uniform(0.0, min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0**number)))
    return transaction()


P = ParamSpec("P")

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
        loaded = _what_is_loaded(session)
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
            _commit_and_expunge(session, keep=_load_again(session, loaded))
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


def _what_is_loaded(session: Session) -> dict[InstanceState[Any], Collection[str]]:
    """The objects in the session, and their attributes that are loaded, or that an earlier commit has expired."""
    loaded: dict[InstanceState[Any], Collection[str]] = {}
    usual: dict[Mapper[Any], set[str]] = {}
    for state in map(inspect, session):
        mapper = state.mapper
        if mapper not in usual:
            usual[mapper] = _usually_loaded(mapper)
        loaded[state] = (state.dict.keys() & mapper.attrs.keys()) | (state.expired_attributes & usual[mapper])
    return loaded


def _usually_loaded(mapper: Mapper[Any]) -> set[str]:
    # Which of the expired attributes had been loaded is not known. Collections and deferred columns may be large.
    related = (
        one.key for one in mapper.relationships if not one.uselist and one.lazy in ("select", "joined", "selectin")
    )
    return {one.key for one in mapper.column_attrs if not one.deferred}.union(related)


def _load_again(session: Session, loaded: Mapping[InstanceState[Any], Collection[str]]) -> list[Any]:
    """Load again the attributes that could be read before the block and expired since, by a rollback or a commit.

    :returns: the objects of databases that the transaction has not used, and must not connect to for this.
    """
    kept: list[Any] = []
    for state, names in loaded.items():
        missing = [name for name in names if name not in state.dict]
        if not missing or not state.persistent or state.session is not session:
            continue
        if session.get_bind(mapper=state.mapper).engine not in engines_in_use(session):
            kept.append(state.obj())
            continue
        # Not by reading the attributes: lazy="raise" and raiseload refuse that. Its row may be gone.
        with suppress(InvalidRequestError):
            session.refresh(state.obj(), missing)
    return kept


def _commit_and_expunge(session: Session, keep: Collection[Any]) -> None:
    note_commit_in_parts(session)
    expires = session.expire_on_commit
    # Expired objects could not be read after the commit. If objects were expunged before it, a repeated execution would
    # change detached objects, and the changes would be lost.
    session.expire_on_commit = False
    try:
        session.commit()
    finally:
        session.expire_on_commit = expires
    session.expunge_all()
    session.add_all(keep)
