"""The configuration of the application: drivers, URLs, pools. Needs no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask
from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool

from ..application.databases import DRIVERS
from ..application.load import WRITE_DRIVER
from .finding import Finding, found

BARE_SCHEMES = ("postgresql://", "postgres://")

#: The pool's connections beside those of the workers: the poller's, and one for the notifier's queries.
POOLED_BESIDE_WORKERS = 2


def database_urls(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The database URLs that are given as text, and where each is given."""
    uri = config.get("SQLALCHEMY_DATABASE_URI")
    if isinstance(uri, str):
        yield "SQLALCHEMY_DATABASE_URI", uri
    for key, bind in (config.get("SQLALCHEMY_BINDS") or {}).items():
        url = bind.get("url") if isinstance(bind, Mapping) else bind
        if isinstance(url, str):
            yield f"SQLALCHEMY_BINDS[{key!r}]", url


def uri_drivers(config: Mapping[str, Any]) -> Iterator[Finding]:
    """URLs without a driver: SQLAlchemy 2.1 changes their meaning."""
    for place, url in database_urls(config):
        if url.startswith(BARE_SCHEMES):
            scheme = url.partition("://")[0]
            problem = f"{scheme}:// names no driver: SQLAlchemy 2.0 takes psycopg2, 2.1 takes psycopg 3"
            if scheme == "postgres":
                problem = "postgres:// is no scheme that SQLAlchemy knows"
            yield found("uri-driver", place, problem, WRITE_DRIVER)


def drivers(engines: Mapping[str | None, Engine]) -> Iterator[Finding]:
    """Databases other than PostgreSQL, for which bursts are written."""
    for bind_key, engine in engines.items():
        if engine.dialect.name != "postgresql" or engine.dialect.driver not in DRIVERS:
            name = f"{engine.dialect.name}+{engine.dialect.driver}"
            yield found("driver-unsupported", place_of(bind_key), f"the driver is {name}", WRITE_DRIVER)


def pools(engines: Mapping[str | None, Engine], workers: int) -> Iterator[Finding]:
    """Pools that are too small: a worker without a connection waits, and then its burst fails."""
    needed = workers + POOLED_BESIDE_WORKERS
    for bind_key, engine in engines.items():
        overflow = getattr(engine.pool, "_max_overflow", -1)
        # A pool size of zero, and a negative overflow, mean no limit.
        if not isinstance(engine.pool, QueuePool) or engine.pool.size() == 0 or overflow < 0:
            continue
        most = engine.pool.size() + overflow
        if most < needed:
            problem = f"its pool has {most} connections, and a relay of {workers} workers needs {needed}"
            remedy = f"Set pool_size to {needed} in SQLALCHEMY_ENGINE_OPTIONS, or run fewer workers."
            yield found("pool-too-small", place_of(bind_key), problem, remedy)


def place_of(bind_key: str | None) -> str:
    """The name of a database, for people."""
    return "database" if bind_key is None else f"database (bind {bind_key!r})"


def check_configuration(app: Flask, engines: Mapping[str | None, Engine], workers: int) -> Iterator[Finding]:
    yield from uri_drivers(app.config)
    yield from drivers(engines)
    yield from pools(engines, workers)
