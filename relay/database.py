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


def limit_connections(engine: Engine) -> None:
    """Open the engine's connections with limits from now on."""
    if engine.dialect.driver not in ("psycopg2", "psycopg"):
        return

    @event.listens_for(engine, "do_connect")
    def set_limits(_dialect: Any, _record: Any, _arguments: list[Any], parameters: dict[str, Any]) -> None:
        for name, value in CONNECTION_LIMITS.items():
            parameters.setdefault(name, value)

    # The application may have connected while it was loaded.
    engine.dispose()
