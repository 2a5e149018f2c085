"""Limits of the relay's database connections below SQL: a database that falls silent is noticed.

Without them a connection to a host that vanished waits for hours, and a relay with it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

#: libpq's own parameters. What the application sets itself, wins.
#: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
CONNECTION_LIMITS = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # In milliseconds: how long sent data may stay unacknowledged.
    "tcp_user_timeout": 30_000,
}


#: As the sessions of a relay are shown in pg_stat_activity, where the application gives them no name of its own.
APPLICATION_NAME = "signalbus-relay"


def limit_connections(engine: Engine, application_name: str | None = None) -> None:
    """Open the engine's connections with limits from now on, and in UTF8, unless the application says otherwise.

    :param application_name: a name for the sessions that the application gives none.
    """
    if engine.dialect.driver not in ("psycopg2", "psycopg"):
        return

    @event.listens_for(engine, "do_connect")
    def set_limits(_dialect: Any, _record: Any, _arguments: list[Any], parameters: dict[str, Any]) -> None:
        for name, value in CONNECTION_LIMITS.items():
            parameters.setdefault(name, value)
        # A row that the client's encoding cannot hold fails the statement that reads it. UTF8 holds all.
        if "client_encoding" not in parameters.get("options", ""):
            parameters.setdefault("client_encoding", "UTF8")
        if application_name is not None:
            parameters.setdefault("fallback_application_name", application_name)

    # The application may have connected while it was loaded.
    engine.dispose()
