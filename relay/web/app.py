"""The WSGI application: the handler of each path, and the headers of every response."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from .auth import Guard
from .http import TEXT, Answer, HttpError, Request, json_answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    Wsgi = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

logger = logging.getLogger("signalbus.relay.http")

Handler = Callable[[Request], Answer]

#: The headers of every response. The policy allows nothing; a page has its own.
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def create_app(routes: Mapping[str, Mapping[str, Handler]], guard: Guard) -> Wsgi:
    """The application.

    :param routes: for each path the handlers by method.
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer = _answer(routes, guard, request)
        except HttpError as error:
            answer = _error(request, error)
        except Exception:
            # The client gets no internals; the log has the traceback.
            logger.exception("A request failed: %s %r.", request.method, request.path, extra={"action": "http_error"})
            answer = _error(request, HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, "The relay's log tells what failed."))
        headers = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            **SECURITY_HEADERS,
            **answer.headers,
        }
        start_response(f"{answer.status.value} {answer.status.phrase}", list(headers.items()))
        return [] if request.method == "HEAD" else [answer.body]

    return app


def _answer(routes: Mapping[str, Mapping[str, Handler]], guard: Guard, request: Request) -> Answer:
    guard.check_host(request)
    handlers = routes.get(request.path)
    if handlers is None:
        raise HttpError(HTTPStatus.NOT_FOUND, "There is nothing here.")
    method = "GET" if request.method == "HEAD" else request.method
    handler = handlers.get(method)
    if handler is None:
        allowed = sorted({*handlers, *(["HEAD"] if "GET" in handlers else [])})
        raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"Allowed: {', '.join(allowed)}.", Allow=", ".join(allowed))
    if method != "GET":
        guard.check_origin(request)
    return handler(request)


def _error(request: Request, error: HttpError) -> Answer:
    if request.path.startswith("/api/"):
        return json_answer({"error": str(error)}, error.status, error.headers)
    return Answer(f"{error}\n".encode(), TEXT, error.status, error.headers)
