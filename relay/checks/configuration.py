"""The configuration of the application: drivers and URLs. Needs no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask
from sqlalchemy.engine import Engine

from .finding import Finding, found

WRITE_DRIVER = "Begin the URL with postgresql+psycopg2://."
BARE_SCHEMES = ("postgresql://", "postgres://")


def database_urls(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The database URLs that are given as text, with the places where they are given."""
    uri = config.get("SQLALCHEMY_DATABASE_URI")
    if isinstance(uri, str):
        yield "SQLALCHEMY_DATABASE_URI", uri
    for key, bind in (config.get("SQLALCHEMY_BINDS") or {}).items():
        url = bind.get("url") if isinstance(bind, Mapping) else bind
        if isinstance(url, str):
            yield f"SQLALCHEMY_BINDS[{key!r}]", url


def uri_drivers(config: Mapping[str, Any]) -> Iterator[Finding]:
    """A URL without a driver changes its meaning with SQLAlchemy 2.1."""
    for place, url in database_urls(config):
        if url.startswith(BARE_SCHEMES):
            scheme = url.partition("://")[0]
            problem = f"{scheme}:// names no driver: SQLAlchemy 2.0 takes psycopg2, 2.1 takes psycopg 3"
            if scheme == "postgres":
                problem = "postgres:// is no scheme that SQLAlchemy knows"
            yield found("uri-driver", place, problem, WRITE_DRIVER)


def drivers(engines: Mapping[str | None, Engine]) -> Iterator[Finding]:
    """Bursts are written for PostgreSQL."""
    for bind_key, engine in engines.items():
        if engine.dialect.name != "postgresql" or engine.dialect.driver not in ("psycopg2", "psycopg"):
            name = f"{engine.dialect.name}+{engine.dialect.driver}"
            yield found("driver-unsupported", place_of(bind_key), f"the driver is {name}", WRITE_DRIVER)


def place_of(bind_key: str | None) -> str:
    """A database, for people."""
    return "database" if bind_key is None else f"database (bind {bind_key!r})"


def check_configuration(app: Flask, engines: Mapping[str | None, Engine]) -> Iterator[Finding]:
    yield from uri_drivers(app.config)
    yield from drivers(engines)
