"""The drill's tables, exchange and queue, and its own connections. Invariant: :meth:`Resources.close` removes all."""

from __future__ import annotations

import contextlib
import secrets
from typing import Any

import pika
import sqlalchemy as sa
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import SignalBusError
from signalbus_core.inbox import table as inbox_table
from signalbus_core.rabbitmq import BrokerLocation, Publisher

from ..text import redact
from .kinds.tables import drop_sql, prepare, signal_tables
from .settings import DrillFailedError, DrillUsageError

#: The connect timeout.
BROKER_CONNECT_SECONDS = 10.0

#: pika's errors of connecting have several root classes.
BROKER_ERRORS = (AMQPError, AMQPConnectorException, OSError)


def open_connection(url: str) -> pika.BlockingConnection:
    """A connection to the first node of the broker that takes it."""
    nodes = BrokerLocation(url).nodes
    for node in nodes:
        parameters = node.parameters(BROKER_CONNECT_SECONDS / len(nodes))
        parameters.blocked_connection_timeout = BROKER_CONNECT_SECONDS
        parameters.client_properties = {"connection_name": "signalbus drill"}
        try:
            return pika.BlockingConnection(parameters)
        except BROKER_ERRORS:
            if node is nodes[-1]:
                raise
    raise AssertionError("a broker has a node")


NAME_PREFIX = "signalbus_drill_"

#: x-expires of the queue; the exchange is deleted with it. It cleans up after a drill that was killed.
EXPIRES_MILLISECONDS = 3_600_000

CONNECT_SECONDS = "10"

#: Sessions of a drill have its name. A table whose drill has no session is left over.
LEFT_OVER = sa.text(
    "SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND c.relname ~ :pattern AND pg_table_is_visible(c.oid) "
    "AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE starts_with(a.application_name, left(c.relname, :length))) "
    "ORDER BY c.relname"
)

END_SESSIONS = sa.text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE starts_with(application_name, :start) AND pid <> pg_backend_pid()"
)


def inbox_tables(name: str) -> tuple[sa.Table, sa.Table]:
    """The inbox of a drill with this name, and the table of the effects. The inbox's queue has the inbox's name."""
    metadata = sa.MetaData(info={"signalbus_inbox": f"{name}_inbox"})
    return inbox_table(metadata), sa.Table(f"{name}_effects", metadata, sa.Column("number", sa.BigInteger))


class Resources:
    """The drill's tables, exchange and queue; with an inbox, its tables and its queue too.

    :param queue_type: ``classic`` or ``quorum``.
    :param with_order: whether there are signals in the order of a key.
    """

    def __init__(
        self,
        database_url: URL,
        amqp_url: str,
        queue_type: str,
        *,
        with_inbox: bool = False,
        with_order: bool = True,
    ) -> None:
        self.name = NAME_PREFIX + secrets.token_hex(4)
        self._database_url = database_url
        self._amqp_url = amqp_url
        self._queue_type = queue_type
        self._engine = self.engine("drill")
        self._has_table = self._has_exchange = False
        #: The tables of its signals, one for each kind.
        self.tables = signal_tables(self.name, with_order=with_order)
        seen, self._effects = inbox_tables(self.name)
        self._tables = [*self.tables, *([seen, self._effects] if with_inbox else [])]
        self._queues = [self.name, *([seen.name] if with_inbox else [])]

    def engine(self, part: str) -> Engine:
        """An engine without a pool, whose application_name has the drill's name and that of a part of it."""
        return sa.create_engine(self.named(self._database_url, part), poolclass=sa.NullPool)

    def named(self, url: URL, part: str) -> URL:
        timeout = url.query.get("connect_timeout", CONNECT_SECONDS)
        return url.update_query_dict({"application_name": f"{self.name} {part}", "connect_timeout": timeout})

    def check(self) -> list[str]:
        """Connect to both servers.

        :returns: what earlier drills left over, one sentence each.
        :raises DrillUsageError: a server cannot be reached, or refuses the login.
        """
        problems, left_over = [], []
        try:
            with self._engine.connect() as connection:
                left_over = list(
                    connection.scalars(
                        LEFT_OVER,
                        {"pattern": f"^{NAME_PREFIX}[0-9a-f]{{8}}(_[a-z]+)?$", "length": len(self.name)},
                    )
                )
        except SQLAlchemyError as error:
            problems.append(f"The database cannot be used: {first_line(error)}")
        try:
            with contextlib.closing(Publisher(url=self._amqp_url)) as publisher:
                publisher.connect()
        except SignalBusError as error:
            problems.append(f"The broker cannot be used: {first_line(error)}")
        if problems:
            raise DrillUsageError(problems)
        return [f"Left over from an earlier drill: table {name} (drop it with: {drop_sql(name)})" for name in left_over]

    def open(self) -> None:
        """Create the tables, the exchange and the queue.

        :raises DrillUsageError: the login lacks the privileges.
        """
        self._has_table = True
        try:
            with self._engine.begin() as connection:
                for table in self._tables:
                    table.create(connection)
                prepare(connection, self.tables)
        except SQLAlchemyError as error:
            raise DrillUsageError([f"The table {self.name} cannot be made: {first_line(error)}"]) from None
        arguments: dict[str, Any] = {"x-queue-type": self._queue_type, "x-expires": EXPIRES_MILLISECONDS}
        try:
            with contextlib.closing(open_connection(self._amqp_url)) as connection:
                channel = connection.channel()
                channel.exchange_declare(self.name, exchange_type="fanout", durable=True, auto_delete=True)
                self._has_exchange = True
                for name in self._queues:
                    channel.queue_declare(name, durable=True, arguments=arguments)
                    channel.queue_bind(name, self.name)
        except BROKER_ERRORS as error:
            raise DrillUsageError(
                [f"The exchange and the queue {self.name} cannot be made: {first_line(error)}"]
            ) from None

    def waiting(self) -> frozenset[int] | None:
        """The numbers in the tables; None when the database does not answer."""
        numbers = sa.union_all(*(sa.select(table.c.number) for table in self.tables))
        try:
            with self._engine.connect() as connection:
                return frozenset(connection.scalars(numbers))
        except SQLAlchemyError:
            return None

    def effects(self) -> list[int] | None:
        """The number of each effect of the consumers with an inbox; None when the database does not answer."""
        try:
            with self._engine.connect() as connection:
                return list(connection.scalars(sa.select(self._effects.c.number)))
        except SQLAlchemyError:
            return None

    def queued(self) -> int | None:
        """How many messages are in the queue; None when the broker does not answer."""
        try:
            with contextlib.closing(open_connection(self._amqp_url)) as connection:
                return int(connection.channel().queue_declare(self.name, passive=True).method.message_count)
        except BROKER_ERRORS:
            return None

    def end_sessions(self, part: str = "") -> int:
        """Terminate the database sessions of a part of this drill; return how many there were."""
        try:
            with self._engine.connect() as connection:
                return int(connection.scalar(END_SESSIONS, {"start": f"{self.name} {part}"}) or 0)
        except SQLAlchemyError:
            return 0

    def close(self) -> None:
        """Remove everything.

        :raises DrillFailedError: something is still there; the text says how to remove it.
        """
        left = [problem for problem in (self._remove_table(), self._remove_queue()) if problem]
        if left:
            raise DrillFailedError("\n".join(left))

    def _remove_table(self) -> str | None:
        if not self._has_table:
            return None
        # The locks of a killed relay stay until the server notices.
        self.end_sessions()
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
                for table in self._tables:
                    connection.exec_driver_sql(drop_sql(table.name))
        except SQLAlchemyError as error:
            return (
                f"The tables of {self.name} are still there (drop them with: "
                f"{' '.join(drop_sql(table.name) for table in self._tables)}): {first_line(error)}"
            )
        return None

    def _remove_queue(self) -> str | None:
        if not self._has_exchange:
            return None
        try:
            with contextlib.closing(open_connection(self._amqp_url)) as connection:
                channel = connection.channel()
                for name in self._queues:
                    channel.queue_delete(name)
                channel.exchange_delete(self.name)
        except BROKER_ERRORS as error:
            return f"The exchange and the queue {self.name} are still there for an hour: {first_line(error)}"
        return None


def first_line(error: BaseException) -> str:
    """The text of an error in one line, without a password."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines() or [repr(cause)]
    return redact(lines[0].strip())
