"""Tracks the rows of a burst while its send method uses the session: only unchanged rows are locked again.

A send method should leave the transaction to the bus. One that commits releases the row locks, and may have updated the
rows: so their versions are recorded just before the commit, while nobody else can have changed them. When it begins its
next transaction, the rows that still have these versions are locked again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import event, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..model.contract import SignalSpec
from ..sql.keys import Key
from ..sql.rows import Row, find_written, has_id, row_id

logger = logging.getLogger("signalbus")


class LockedRows:
    """The versions and locks of the rows of a burst.

    :param session: whose transaction holds the locks.
    :param connection: of that transaction.
    """

    def __init__(self, session: Session, connection: Connection, spec: SignalSpec, rows: Sequence[Row]) -> None:
        self._spec = spec
        self._engine = connection.engine
        self._rows = {row.key: row for row in rows}
        self._locked = set(self._rows)
        #: The keys of rows that a send method has given others: a new row may have theirs.
        self._moved: set[Key] = set()
        self._transaction = session.get_transaction()
        self._holder: tuple[Session, Connection] | None = (session, connection)

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """The same rows with their current versions."""
        return [self._rows[row.key] for row in rows]

    def are_locked_by(self, session: Session, rows: Sequence[Row]) -> bool:
        """Whether the session's current transaction has locked these rows, and with them their keys."""
        keys = [row.key for row in rows]
        return self._is_held_by(session) and self._locked.issuperset(keys) and self._moved.isdisjoint(keys)

    def is_first_transaction(self, session: Session) -> bool:
        """Whether the session is still in the transaction that first locked the rows."""
        return session.get_transaction() is self._transaction

    def begins(self, session: Session, connection: Connection) -> None:
        """A session has begun a transaction."""
        if connection.engine is not self._engine or connection.dialect.name != "postgresql":
            return
        if self._holder is not None and self._is_held_by(self._holder[0]):
            # Another transaction than the one that has the locks.
            return
        self._holder = (session, connection)
        self._locked = set()
        self._try("lock again", connection, self._lock_again)

    def commits(self, session: Session) -> None:
        """A session is about to commit."""
        if self._engine.dialect.name != "postgresql":
            return
        # Write what the commit would write. This may also begin the transaction.
        session.flush()
        if self._holder is None or not self._is_held_by(session):
            return
        self._try("record", self._holder[1], self._record_versions)
        self._locked = set()
        self._holder = None

    def _is_held_by(self, session: Session) -> bool:
        if self._holder is None or self._holder[0] is not session:
            return False
        connection = self._holder[1]
        return not connection.closed and connection.in_transaction()

    def _lock_again(self, connection: Connection) -> None:
        known = {one: row.key for row in self._rows.values() for one in row.ids}
        locking = select(row_id(connection.dialect)).select_from(self._spec.table)
        locking = locking.where(has_id(known)).with_for_update(skip_locked=True)
        for one in connection.scalars(locking):
            # Now it is certain which version was committed.
            self._rows[known[one]] = Row(known[one], (one,))
            self._locked.add(known[one])

    def _record_versions(self, connection: Connection) -> None:
        locked = [self._rows[key] for key in self._locked]
        before = {one: row for row in locked for one in row.ids}
        for earlier, written in find_written(connection, self._spec, locked).items():
            row = before[earlier]
            # Keep both versions, because the commit may fail.
            self._rows[row.key] = Row(row.key, row.ids + written.ids)
            if written.key != row.key:
                self._moved.add(row.key)

    def _try(self, what: str, connection: Connection, do: Callable[[Connection], None]) -> None:
        """Do it under a savepoint, so that a failure leaves the send method's transaction usable."""
        try:
            with connection.begin_nested():
                do(connection)
        except SQLAlchemyError:
            logger.debug("%s: cannot %s the signals of the burst.", self._spec.name, what, exc_info=True)


_tracked: ContextVar[LockedRows | None] = ContextVar("signalbus_locked_rows", default=None)


@contextmanager
def tracking_locks(
    session: Session, connection: Connection, spec: SignalSpec, rows: Sequence[Row]
) -> Iterator[LockedRows]:
    """Track these rows in the block, in every session of this context."""
    locked_rows = LockedRows(session, connection, spec, rows)
    token = _tracked.set(locked_rows)
    try:
        yield locked_rows
    finally:
        _tracked.reset(token)


@event.listens_for(Session, "after_begin")
def _after_begin(session: Session, transaction: Any, connection: Connection) -> None:
    locked_rows = _tracked.get()
    if locked_rows is not None and not transaction.nested:
        locked_rows.begins(session, connection)


@event.listens_for(Session, "before_commit")
def _before_commit(session: Session) -> None:
    locked_rows = _tracked.get()
    if locked_rows is not None and not session.in_nested_transaction():
        locked_rows.commits(session)
