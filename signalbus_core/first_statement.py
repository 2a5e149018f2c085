"""Something that is said to the database before a statement, in the same message: on its own it would be a round trip.

What was said in this way may be undone when somebody else is about to use the transaction. Most often nobody does.

PostgreSQL runs the statements of a message one after the other, and what is set by the first holds for the second.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

#: The execution option of a statement that holds what is said before it.
SAID_FIRST = "signalbus_said_first"

#: In the notes that a connection keeps: what is to be run before the next statement.
_UNDO = "signalbus_undo"

_listening: WeakSet[Engine] = WeakSet()


def can_say_first(bind: Engine | Connection) -> bool:
    """Whether statements on new connections of this engine may have the option :data:`SAID_FIRST`.

    Not with drivers that prepare statements, or send each by itself.
    """
    if not isinstance(bind, Engine) or bind.dialect.name != "postgresql" or bind.dialect.driver != "psycopg2":
        return False
    if bind not in _listening:
        event.listen(bind, "before_cursor_execute", _say_first, retval=True)
        _listening.add(bind)
    return True


@contextmanager
def undone_for_others(connection: Connection, undo: str) -> Iterator[None]:
    """In the block, ``undo`` is run before the first statement on the connection, if there is one."""
    # Whoever closes the session in the block takes the connection away, not the notes.
    notes = connection.info
    notes[_UNDO] = undo
    try:
        yield
    finally:
        notes.pop(_UNDO, None)


def _say_first(
    connection: Connection, _cursor: Any, statement: str, parameters: Any, context: Any, _executemany: bool
) -> tuple[str, Any]:
    undo = connection.info.pop(_UNDO, None)
    if undo is not None:
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(undo)
    first = context.execution_options.get(SAID_FIRST) if context is not None else None
    return (statement if first is None else first + statement), parameters
