"""The configuration of the application: drivers, URLs, pools. Needs no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import Flask
from sqlalchemy.engine import Engine

from signalbus_core.lowlevel import SignalSpec

from ..application.connection_parameters import rejected_parameters
from ..application.databases import DRIVERS, place_of
from ..application.fencing import fencing_problems
from ..application.load import WRITE_DRIVER
from ..application.pools import pool_problem
from ..config.resolve import ANY_NAME_PROBLEM, ANY_NAME_REMEDY, RelayConfig
from .finding import Finding, finding_of_text, found

BARE_SCHEMES = ("postgresql://", "postgres://")


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
    """Pools that are too small."""
    for bind_key, engine in engines.items():
        if (problem := pool_problem(engine, workers)) is not None:
            yield found("pool-too-small", place_of(bind_key), problem[0], f"{problem[1]}.")


def parameters(engines: Mapping[str | None, Engine]) -> Iterator[Finding]:
    """Connection parameters with which no connection will ever be tried."""
    for bind_key, engine in engines.items():
        if (why := rejected_parameters(engine)) is not None:
            yield rejected(place_of(bind_key), why)


def rejected(place: str, why: str) -> Finding:
    """Parameters that the client library rejects, or settings among them that the server does."""
    remedy = "Correct the URL, or the connect_args, of the database."
    return found("database-url", place, f"its connection parameters are rejected: {why.rstrip('.')}", remedy)


def fencing(app: Flask, specs: Sequence[SignalSpec], config: RelayConfig) -> Iterator[Finding]:
    """Settings with which a relay that was stopped sends signals of a key late."""
    for problem in fencing_problems(app, specs, config.burst_limits):
        yield finding_of_text("fencing-unsure", "--idle-timeout", f"{problem}.")


def host_names(config: RelayConfig) -> Iterator[Finding]:
    """An HTTP server for others that does not know its own names."""
    if config.accepts_any_name:
        yield found("http-any-name", "--http", ANY_NAME_PROBLEM, ANY_NAME_REMEDY)


def check_configuration(app: Flask, engines: Mapping[str | None, Engine], config: RelayConfig) -> Iterator[Finding]:
    yield from host_names(config)
    yield from uri_drivers(app.config)
    yield from drivers(engines)
    yield from pools(engines, config.workers)
    yield from parameters(engines)
