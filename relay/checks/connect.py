"""How the checks connect to a database: as a relay does, but impatiently."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from ..application.databases import limit_connections

#: For opening a connection. A few are opened one after the other within the time that a server is given.
CONNECT_WITHIN_SECONDS = 3


def hurry(engine: Engine) -> None:
    """Have the engine's connections opened within a short time, whatever the application says."""
    if engine.dialect.name != "postgresql":
        return

    @event.listens_for(engine, "do_connect")
    def set_limit(_dialect: Any, _record: Any, _arguments: list[Any], parameters: dict[str, Any]) -> None:
        parameters["connect_timeout"] = CONNECT_WITHIN_SECONDS

    limit_connections(engine)
