"""The HTTP server: health for the orchestrator, metrics for Prometheus.

It reads what others noted, and waits for nobody.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any, cast

from waitress import wasyncore
from waitress.server import create_server
from waitress.trigger import trigger

from .config import ConfigError
from .health import Health
from .metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    Wsgi = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

#: Threads that answer requests. Slow clients do not occupy one: requests are read and answers written without them.
THREADS = 4

SECURITY_HEADERS = [
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]

Answer = tuple[str, str, bytes]


class HttpServer:
    """Serves a WSGI application from threads of its own.

    :param port: 0 for a free one.
    :raises ConfigError: the address cannot be used.
    """

    def __init__(self, app: Wsgi, host: str, port: int) -> None:
        self._sockets: dict[int, Any] = {}
        try:
            # A fixed ident: no version of anything is told to strangers.
            self._server: Any = create_server(
                app, map=self._sockets, host=host, port=port, threads=THREADS, ident="signalbus"
            )
        except (OSError, ValueError) as error:
            self._close_sockets()
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                [f"--http {host}:{port}: cannot listen there ({reason}). Choose another port, or 0 for a free one."]
            ) from error
        self._trigger = trigger(cast(Any, self._sockets))
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        # A name like localhost may stand for several addresses; then there are several sockets.
        several = getattr(self._server, "effective_listen", None)
        return int(several[0][1] if several else self._server.effective_port)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end all connections."""
        # Sockets belong to the server's thread: it closes them itself, and ends when none is left.
        self._trigger.pull_trigger(self._close_sockets)
        self._thread.join(2)
        self._server.task_dispatcher.shutdown(timeout=1)

    def _close_sockets(self, _argument: None = None) -> None:
        wasyncore.close_all(self._sockets, ignore_all=True)


def create_http_app(health: Health, metrics: Metrics) -> Wsgi:
    """The WSGI application with all pages."""

    def live() -> Answer:
        stalled = health.stalled()
        return _json({"alive": not stalled, "reasons": stalled}, good=not stalled)

    def ready() -> Answer:
        readiness = health.readiness()
        return _json(readiness, good=readiness["ready"])

    def scrape() -> Answer:
        return "200 OK", CONTENT_TYPE, metrics.render()

    def index() -> Answer:
        return "200 OK", "text/html; charset=utf-8", _index_page(health).encode()

    pages = {"/": index, "/livez": live, "/healthz": live, "/readyz": ready, "/metrics": scrape}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        page = pages.get(environ["PATH_INFO"])
        if page is None:
            status, content_type, body = "404 Not Found", "text/plain; charset=utf-8", b"Not found\n"
        elif method not in ("GET", "HEAD"):
            status, content_type, body = "405 Method Not Allowed", "text/plain; charset=utf-8", b"Only GET and HEAD\n"
        else:
            status, content_type, body = page()
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), *SECURITY_HEADERS]
        if status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start_response(status, headers)
        return [] if method == "HEAD" else [body]

    return app


def _json(content: dict[str, Any], *, good: bool) -> Answer:
    status = "200 OK" if good else "503 Service Unavailable"
    return status, "application/json", (json.dumps(content, indent=2) + "\n").encode()


def _index_page(health: Health) -> str:
    readiness = health.readiness()
    verdict = "Signals can flow." if readiness["ready"] else "Signals cannot flow."
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in (*readiness["reasons"], *health.stalled()))
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Signalbus relay</title>
<style>:root {{ color-scheme: light dark }} body {{ font: 1rem/1.5 system-ui; margin: 2rem; max-width: 40rem }}</style>
<h1>Signalbus relay</h1>
<p>{verdict}</p>
<ul>{reasons}</ul>
<nav><a href="/livez">livez</a> · <a href="/readyz">readyz</a> · <a href="/metrics">metrics</a></nav>
</html>
"""
