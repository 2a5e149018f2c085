"""Limits of the relay's database connections."""

from __future__ import annotations

import sqlalchemy as sa

from relay.application.databases import CONNECTION_LIMITS, limit_connections


def parameters(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        found: dict[str, str] = connection.connection.dbapi_connection.info.dsn_parameters  # type: ignore[union-attr]
    engine.dispose()
    return found


def test_connections_are_opened_with_limits_in_pool_too(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    engine.connect().close()
    limit_connections(engine)
    found = parameters(engine)
    assert {name: found[name] for name in CONNECTION_LIMITS} == {
        name: str(value) for name, value in CONNECTION_LIMITS.items()
    }


def test_what_the_application_sets_wins(database_url: str) -> None:
    engine = sa.create_engine(database_url, connect_args={"connect_timeout": 3})
    limit_connections(engine)
    assert parameters(engine)["connect_timeout"] == "3"


def test_other_databases_are_left_alone() -> None:
    engine = sa.create_engine("sqlite://")
    limit_connections(engine)
    engine.connect().close()
    engine.dispose()
