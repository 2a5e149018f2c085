"""The Flask application of the site: the checks before every request, and the headers of every response.

Invariant: it shares nothing with the application whose signals are relayed: no configuration, no FLASK_ variable, and
no logger.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Flask, Response, request
from flask.json.provider import DefaultJSONProvider
from flask.typing import ResponseReturnValue
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException, InternalServerError

from signalbus_core.lowlevel import one_line

from ..text import redacted
from . import template_helpers
from .auth import Guard
from .validation import MOST_BODY_BYTES

logger = logging.getLogger("signalbus.relay.http")

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


class _Json(DefaultJSONProvider):
    """Passwords in URLs are removed from all texts of a JSON response."""

    compact = False
    sort_keys = False

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return super().dumps(redacted(obj), **kwargs)


class _Site(Flask):
    json_provider_class = _Json

    def add_url_rule(self, *args: Any, **options: Any) -> None:
        """A route answers the methods that it names, and OPTIONS is none of them."""
        super().add_url_rule(*args, **{**options, "provide_automatic_options": False})


def create_app(blueprints: Iterable[Blueprint], guard: Guard) -> Flask:
    """The application."""
    app = _Site(__name__, static_folder=None)
    # Otherwise FLASK_DEBUG, which is meant for the relayed application, would show tracebacks.
    app.debug = False
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    app.url_map.merge_slashes = False
    app.jinja_options = {
        "undefined": StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "finalize": template_helpers.shown,
    }
    app.jinja_env.filters |= template_helpers.FILTERS
    app.jinja_env.globals |= template_helpers.GLOBALS
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    app.register_error_handler(HTTPException, _refuse)
    app.register_error_handler(Exception, _fail)

    @app.before_request
    def check() -> None:
        guard.check_host(request)
        if request.method not in ("GET", "HEAD"):
            guard.check_origin(request)

    @app.after_request
    def protect(response: Response) -> Response:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app


def _refuse(error: HTTPException) -> ResponseReturnValue:
    """The response to a request that cannot be served: a sentence, which is JSON for programs."""
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    if request.path.startswith("/api/"):
        return {"error": error.description}, error.code or 500, headers
    return Response(f"{one_line(error.description or '')}\n", mimetype="text/plain"), error.code or 500, headers


def _fail(error: Exception) -> ResponseReturnValue:
    # The client gets no internals; the log has the traceback.
    extra = {"action": "http_error"}
    logger.error("A request failed: %s %r.", request.method, request.path, exc_info=error, extra=extra)
    return _refuse(InternalServerError("The relay's log tells what failed."))
