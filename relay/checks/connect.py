"""The database connections of the checks: as those of a relay, with a short connect timeout."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from ..application.databases import addresses_of, limit_connections

#: The connect timeout. Several connections are opened one after the other within the deadline of a server.
CONNECT_WITHIN_SECONDS = 3

#: The shortest that libpq knows; each of several hosts has so long.
LEAST_SECONDS = 2


def set_connect_timeout(engine: Engine) -> None:
    """Give the engine's connections a short connect timeout, whatever the application sets."""
    if engine.dialect.name != "postgresql":
        return

    @event.listens_for(engine, "do_connect")
    def set_limit(_dialect: Any, _record: Any, _arguments: list[Any], parameters: dict[str, Any]) -> None:
        parameters["connect_timeout"] = CONNECT_WITHIN_SECONDS if len(addresses_of(parameters)) < 2 else LEAST_SECONDS

    limit_connections(engine)
