"""The HTTP server of a relay that waits for its database before it knows its tables.

Invariant: from the start to the end of the process ``/livez`` and ``/readyz`` are answered at one address.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .config.resolve import ANY_NAME_PROBLEM, ANY_NAME_REMEDY, RelayConfig
from .telemetry.health import Health
from .web.server import HttpServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("signalbus.relay")


class EarlySite:
    """Answers that the relay is alive and not ready, until there is another site to answer for it."""

    def __init__(self, stall_after_seconds: float) -> None:
        self._health = Health(stall_after_seconds)
        self._site: WSGIApplication = self._answer

    def database_is_away(self, reason: str) -> None:
        """Tell why the relay is not ready."""
        self._health.set_database("down", reason)

    def replace_app(self, site: WSGIApplication) -> None:
        """Have another site answer from now on."""
        self._site = site

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._site(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_live = environ["PATH_INFO"] in ("/livez", "/healthz")
        answer = {"alive": True, "reasons": []} if is_live else self._health.readiness()
        body = json.dumps(answer).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK" if is_live else "503 Service Unavailable", headers)
        return [body]


@contextmanager
def listening(config: RelayConfig) -> Iterator[EarlySite]:
    """Serve until the block ends.

    :raises ConfigError: the address cannot be used.
    """
    site = EarlySite(config.stall_after_seconds)
    if config.http is None:
        yield site
        return
    server = start_server(site, config.http.host, config.http.port)
    if config.accepts_any_name:
        problem = ANY_NAME_PROBLEM[0].upper() + ANY_NAME_PROBLEM[1:]
        logger.warning("%s. %s", problem, ANY_NAME_REMEDY, extra={"action": "http_any_name"})
    try:
        yield site
    finally:
        # Last, so that Kubernetes probes and Prometheus scrapes see the whole drain.
        server.close()


def start_server(site: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]], host: str, port: int) -> HttpServer:
    """Start the relay's HTTP server.

    :raises ConfigError: the address cannot be used.
    """
    server = HttpServer(site, host, port)
    server.start()
    logger.info(
        "Health and metrics at http://%s:%d/.",
        host,
        server.port,
        extra={"action": "http_listening", "host": host, "port": server.port},
    )
    return server
