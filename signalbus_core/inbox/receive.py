"""Decides in the consumer's transaction whether a message is new.

Invariant: the row that says "processed" is written and committed together with the effects, never before or after them.
The primary key of the table decides, so two deliveries of one message cannot both be new: the second waits for the
transaction of the first.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, scoped_session

from ..errors import MessageIdError, SetupError, TransactionStateError
from .table import DEFAULT

#: The longest message id and the longest name of a consumer, in bytes. That of AMQP's short strings: every message id
#: and every queue name fits.
LONGEST_BYTES = 255

_INSERT: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def receive(
    session: Session | scoped_session[Any] | Connection,
    message_id: str | bytes | UUID | None,
    consumer: str,
    *,
    table: Table | None = None,
) -> bool:
    """Record that this consumer processes a message; return whether the message is new to it.

    Call it in the transaction that writes the effects, before the first of them, and do the work only if it returns
    True. Commit, then acknowledge the message. In an ``AsyncSession``: ``await session.run_sync(receive, message_id,
    consumer)``.

    - If another transaction processes the same message, it waits for the end of that one. Then the message is new if
      that one was rolled back, and not new if it committed.
    - After a rollback, also one to a savepoint before the call, the message is new again.
    - Under REPEATABLE READ and SERIALIZABLE, it raises a serialization failure (SQLSTATE 40001) if a transaction that
      committed after this one began has processed the message. Run the transaction again, as an atomic block does; or
      have the message delivered again.

    :param message_id: of the message, whatever characters it has. Equal ids are the same message.
    :param consumer: what does the work. Each does it once: give each handler a name of its own, and keep the name.
    :param table: what :func:`signalbus_core.inbox.table` returned, if it is not the default table.
    :raises MessageIdError: the message has no id, or one that no message of AMQP can have.
    :raises SetupError: the name of the consumer, or the session, cannot be used.
    :raises TransactionStateError: the session commits each statement by itself.
    """
    target = DEFAULT if table is None else table
    values = {"consumer": consumer_name(consumer), "message_id": _stored(message_id)}
    connection = _connection(session, target)
    insert = _INSERT.get(connection.dialect.name)
    if insert is None:
        raise SetupError(f"The inbox works on PostgreSQL, and in tests on SQLite, not on {connection.dialect.name}.")
    statement = insert(target).values(values).on_conflict_do_nothing().returning(target.c.consumer)
    return connection.scalar(statement) is not None


def consumer_name(name: str) -> str:
    """Check the name of a consumer.

    :raises SetupError: it is none.
    """
    problem = None
    if not isinstance(name, str) or not name:
        problem = "a text that is not empty is expected"
    elif name != name.strip() or not name.isprintable():
        problem = "it may not begin or end with a space, or have characters that are not printable"
    elif len(name.encode()) > LONGEST_BYTES:
        problem = f"it is longer than {LONGEST_BYTES} bytes"
    if problem is not None:
        raise SetupError(f"{name!r} is no name of a consumer: {problem}.")
    return name


def _stored(message_id: str | bytes | UUID | None) -> str:
    """The id as a text that PostgreSQL can store; different ids are different texts."""
    if isinstance(message_id, bytes):
        # pika gives an id that is not UTF-8 as bytes.
        message_id = message_id.decode(errors="surrogateescape")
    if isinstance(message_id, UUID):
        message_id = str(message_id)
    if message_id is None or message_id == "":
        raise MessageIdError(
            "The message has no message_id, so a second delivery cannot be told from a new message. Reject it without "
            "requeueing it, and have its producer set a message_id that is the same on every resend."
        )
    if not isinstance(message_id, str):
        raise MessageIdError(f"A message_id is a text or a UUID, not {type(message_id).__name__}.")
    if _byte_length(message_id) > LONGEST_BYTES:
        raise MessageIdError(f"The message_id is longer than {LONGEST_BYTES} bytes. Give a digest of it.")
    # No text of PostgreSQL has a NUL, or a character that UTF-8 lacks. With each backslash doubled, the escaped forms
    # cannot be mistaken for other ids.
    escaped = message_id.replace("\\", "\\\\").replace("\0", "\\0")
    return escaped.encode(errors="backslashreplace").decode()


def _byte_length(message_id: str) -> int:
    try:
        return len(message_id.encode(errors="surrogateescape"))
    except UnicodeEncodeError:
        return len(message_id.encode(errors="surrogatepass"))


def _connection(session: Session | scoped_session[Any] | Connection, table: Table) -> Connection:
    if hasattr(session, "run_sync"):
        raise SetupError("In an AsyncSession: await session.run_sync(inbox.receive, message_id, consumer).")
    if isinstance(session, (Session, scoped_session)):
        session = session.connection(bind_arguments={"clause": table})
    if not isinstance(session, Connection):
        raise SetupError(f"A session or connection of SQLAlchemy is expected, not {type(session).__name__}.")
    if getattr(session.connection.dbapi_connection, "autocommit", False) is True:
        raise TransactionStateError(
            "The session commits each statement by itself (isolation level AUTOCOMMIT). A message would count as "
            "processed before its effects are written, and be lost if the consumer died in between. Use a transaction."
        )
    return session
