"""The relay's database connections. Invariant: TCP timeouts detect a database host that stops answering.

Without them a connection to a vanished host waits for hours, and so does the relay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine, ExceptionContext

from signalbus_core.lowlevel import Address, BurstLimits, SignalSpec, autocommit, first_listening, sqlstate, transaction

from ..exit_codes import NotFoundError
from .load import LoadedApp

#: The drivers that use libpq and accept its parameters.
DRIVERS = ("psycopg2", "psycopg")

#: How long connecting may take; of several hosts, each has its share.
CONNECT_SECONDS = 10
LEAST_CONNECT_SECONDS = 3

#: The SQLSTATE of a write to a standby, or in a session that is read-only.
READ_ONLY = "25006"

#: libpq parameters. Those that the application sets take precedence.
#: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
CONNECTION_LIMITS = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # How long sent data may stay unacknowledged, in milliseconds.
    "tcp_user_timeout": 30_000,
}

#: libpq's own default.
PORT = 5432

#: The addresses to which an engine connected last.
_addresses: WeakKeyDictionary[Engine, tuple[Address, ...]] = WeakKeyDictionary()

#: What a server, or PgBouncer, says of a login that it will refuse again. Whatever else is refused (too many clients, a
#: server that starts), in whatever language, may soon be accepted.
_REFUSED = re.compile(
    r"authentication failed|pg_hba\.conf|(role|database) \"[^\n]*\" does not exist|no such (user|database)"
    "|not permitted to log in|permission denied for database"
)

#: PgBouncer repeats the last refusal of its server so, without a new try.
_CACHED = "server login has been failing"

#: libpq has a line for each address of each host that it has tried.
_OF_HOST = re.compile(r'connection to server (?:at|on socket) "([^"]*)"([^\n]*)')

#: The application_name of a relay's sessions in pg_stat_activity, unless the application sets one.
APPLICATION_NAME = "signalbus-relay"


def place_of(bind_key: str | None) -> str:
    """The name of a database, for people."""
    return "database" if bind_key is None else f"database (bind {bind_key!r})"


def limit_connections(engine: Engine, application_name: str | None = None) -> None:
    """From now on open the engine's connections with limits and UTF8, unless the application sets others.

    :param application_name: used for sessions to which the application gives none.
    """
    if engine.dialect.driver not in DRIVERS:
        return

    @event.listens_for(engine, "do_connect")
    def set_limits(_dialect: Any, _record: Any, _arguments: list[Any], parameters: dict[str, Any]) -> None:
        _addresses[engine] = addresses_of(parameters)
        if (hosts := len(_addresses[engine])) > 1:
            # A standby takes no bursts. https://www.postgresql.org/docs/current/libpq-connect.html
            parameters.setdefault("target_session_attrs", "read-write")
            # libpq gives each host this time.
            parameters.setdefault("connect_timeout", max(LEAST_CONNECT_SECONDS, CONNECT_SECONDS // hosts))
        for name, value in CONNECTION_LIMITS.items():
            parameters.setdefault(name, value)
        # A row that the client encoding cannot represent fails the statement that reads it. UTF8 represents all.
        if "client_encoding" not in parameters.get("options", ""):
            parameters.setdefault("client_encoding", "UTF8")
        if application_name is not None:
            parameters.setdefault("fallback_application_name", application_name)

    event.listen(engine, "handle_error", _drop_what_cannot_write)
    if engine.dialect.driver == "psycopg":
        event.listen(engine, "connect", _prepare_no_statements)

    # The application may have connected while it was loaded.
    engine.dispose()


def engine_of_its_own(engine: Engine) -> Engine:
    """An engine with the same connection settings, and a separate pool."""
    return Engine(
        engine.pool.recreate(),
        engine.dialect,
        engine.url,
        # They may hold a schema_translate_map.
        execution_options=engine.get_execution_options(),
        hide_parameters=True,
    )


def addresses_of(parameters: Mapping[str, Any]) -> tuple[Address, ...]:
    """The addresses in libpq's connection parameters; none where libpq takes them from elsewhere."""
    hosts = str(parameters.get("hostaddr") or parameters.get("host") or "").split(",")
    ports = str(parameters.get("port") or PORT).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if not all(hosts) or len(hosts) != len(ports):
        return ()
    # A name that begins with @ is an abstract Unix socket.
    known = [(host, int(port or PORT)) for host, port in zip(hosts, ports, strict=True) if host[0] != "@"]
    return tuple(known) if len(known) == len(hosts) else ()


def nothing_listens(engine: Engine, within_seconds: float) -> str | None:
    """Why no host to which the engine connected last accepts a TCP connection; None when one may."""
    addresses = _addresses.get(engine, ())
    accepting, problems = first_listening(addresses, within_seconds)
    if accepting is not None or not problems or any(one not in problems for one in addresses):
        return None
    return "; ".join(f"{host}:{port}: {why}" for (host, port), why in problems.items())


def why_read_only(engine: Engine, limits: BurstLimits) -> str | None:
    """Why a database that answers takes no bursts; None when it takes them.

    Connections to it are closed, because its host name may lead to another server soon.
    """
    if engine.dialect.name != "postgresql":
        return None
    with autocommit(engine, limits) as connection:
        if connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "off":
            return None
    engine.dispose()
    return "it accepts no writes: it is a standby, or its transactions are read-only by default"


def is_refused_login(error: BaseException) -> bool:
    """Whether each host that was tried answered, and refused the login. psycopg2 has only the text of such errors."""
    if code := sqlstate(error):
        return code.startswith("28")
    told = str(getattr(error, "orig", None) or "")
    tried = _OF_HOST.findall(told)
    refusing = {host for host, why in tried if _refuses_login(why)}
    return _refuses_login(told) if not tried else refusing == {host for host, _ in tried}


def _refuses_login(told: str) -> bool:
    return _REFUSED.search(told) is not None and _CACHED not in told


def _drop_what_cannot_write(context: ExceptionContext) -> None:
    """Treat a connection to a server that has become a standby as lost, and with it those of its pool."""
    error, connection = context.original_exception, context.connection
    code = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
    is_read_only = connection is not None and connection.get_execution_options().get("postgresql_readonly")
    if code == READ_ONLY and not is_read_only:
        context.is_disconnect = True


def _prepare_no_statements(connection: Any, _record: Any) -> None:
    # By default psycopg 3 prepares frequent statements. A pooler in transaction mode may run the next transaction on
    # another server connection, where a prepared statement of that name is missing or different.
    # https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
    connection.prepare_threshold = None


#: Limits of a command that only reads, or changes a single row.
LIMITS = BurstLimits(statement_timeout_seconds=60.0, lock_timeout_seconds=10.0, idle_timeout_seconds=60.0)


def by_bind(specs: Iterable[SignalSpec]) -> dict[str | None, list[SignalSpec]]:
    """Models by the bind key of their database."""
    found: dict[str | None, list[SignalSpec]] = {}
    for spec in specs:
        found.setdefault(spec.bind_key, []).append(spec)
    return found


class Databases:
    """All databases of an application's signal models.

    :param limits: of the transactions that begin here.
    :param engines: of each bind key that the models use; the application's own when not given.
    """

    def __init__(
        self,
        loaded: LoadedApp,
        limits: BurstLimits = LIMITS,
        engines: Mapping[str | None, Engine] | None = None,
    ) -> None:
        with loaded.app.app_context():
            self.specs = loaded.bus.specs()
            ours: dict[str | None, Engine] = {s.bind_key: loaded.bus.db.engines[s.bind_key] for s in self.specs}
        self._engines = ours if engines is None else engines
        self._limits = limits
        if engines is None:
            for engine in ours.values():
                limit_connections(engine)

    def spec(self, model: str) -> SignalSpec:
        """The model of this name.

        :raises NotFoundError: there is none.
        """
        known = {spec.name: spec for spec in self.specs}
        if model not in known:
            raise NotFoundError(f"There is no signal model {model!r}. Known are: {', '.join(known)}.")
        return known[model]

    def by_bind(self, specs: Sequence[SignalSpec] | None = None) -> dict[str | None, list[SignalSpec]]:
        """These models, or all, by bind key."""
        return by_bind(self.specs if specs is None else specs)

    @contextmanager
    def transaction(self, bind_key: str | None) -> Iterator[Connection]:
        """A separate transaction, committed at the end."""
        with transaction(self._engines[bind_key], self._limits) as connection:
            yield connection

    @contextmanager
    def rolled_back(self, bind_key: str | None) -> Iterator[Connection]:
        """A transaction that is rolled back at the end."""
        with transaction(self._engines[bind_key], self._limits) as connection:
            yield connection
            connection.rollback()
