"""Whether a URL can lead through a proxy on loopback, and how it reads then. Pure: nothing is opened.

A certificate is made out for the server's host name, so a connection that checks it must not take a detour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy.engine import URL

POSTGRES_PORT = 5432
AMQP_PORT = 5672

#: Where the proxy listens.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Upstream:
    """Where a proxy leads to."""

    host: str
    port: int


def database_upstream(url: URL, environ: Mapping[str, str]) -> Upstream | str:
    """The server of a database URL, or why it cannot be reached by a detour."""
    host = url.host or ""
    if not host or "/" in host or "," in host or {"host", "hostaddr", "port", "service"} & set(url.query):
        return "its URL names no single host"
    if (url.query.get("sslmode") or environ.get("PGSSLMODE")) == "verify-full":
        return "its certificate is checked against its host name (sslmode=verify-full)"
    return Upstream(host, url.port or POSTGRES_PORT)


def broker_upstream(url: str) -> Upstream | str:
    """The server of a broker URL, or why it cannot be reached by a detour."""
    parts = urlsplit(url)
    if parts.scheme == "amqps":
        return "its certificate is checked against its host name (amqps)"
    return Upstream(parts.hostname or "localhost", parts.port or AMQP_PORT)


def database_detour(url: URL, port: int) -> URL:
    return url.set(host=LOOPBACK, port=port)


def broker_detour(url: str, port: int) -> str:
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{LOOPBACK}:{port}"))
