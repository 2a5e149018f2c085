"""Something that is said to the database before a statement, in the same message: on its own it would be a round trip.

PostgreSQL runs the statements of a message one after the other, and what is set by the first holds for the second.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

#: The execution option of a statement that holds what is said before it.
SAID_FIRST = "signalbus_said_first"

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


def _say_first(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, context: Any, _executemany: bool
) -> tuple[str, Any]:
    first = context.execution_options.get(SAID_FIRST) if context is not None else None
    return (statement if first is None else first + statement), parameters
