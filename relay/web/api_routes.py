"""The JSON API for programs: failed signals, the operator's actions, and the OpenAPI document."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest

from ..operations.parked import as_json
from . import validation as field
from .actions import Operations
from .auth import Guard
from .openapi import document


def api_routes(operations: Operations, guard: Guard) -> Blueprint:
    routes = Blueprint("api", __name__, url_prefix="/api")

    @routes.before_request
    def check() -> None:
        # Before any part of an unauthorised request's body is read.
        if request.method == "POST":
            guard.check_bearer(request)

    @routes.get("/openapi.json")
    def openapi() -> dict[str, Any]:
        return document()

    @routes.get("/parked")
    def listed() -> dict[str, Any]:
        query = field.query("model", "limit", "offset")
        limit = field.number(query, "limit", 50, 1, field.MOST_LISTED)
        offset = field.number(query, "offset", 0, 0, field.LAST_OFFSET)
        found = operations.failed_signals(field.optional_text(query, "model"), None, offset + limit + 1)
        shown = found[offset : offset + limit]
        return {"signals": [as_json(one) for one in shown], "more": len(found) > offset + limit}

    @routes.post("/parked/retry")
    def retry() -> dict[str, Any]:
        given = field.json_body("model", "key", "all")
        model, key = field.optional_text(given, "model"), field.optional_text(given, "key")
        if (model is None) != field.flag(given, "all") or (key is not None and model is None):
            raise BadRequest('Give a model, with or without a key, or say that all are meant: {"all": true}.')
        return {"retried": operations.retry(model, key, request.remote_addr)}

    @routes.post("/parked/discard")
    def discard() -> dict[str, Any]:
        given = field.json_body("model", "key")
        operations.discard(field.text(given, "model"), field.text(given, "key"), request.remote_addr)
        return {"discarded": 1}

    @routes.post("/pause")
    def pause() -> dict[str, Any]:
        given = field.json_body("model", "reason")
        model, reason = field.text(given, "model"), field.optional_text(given, "reason")
        return {"paused": True, "changed": operations.pause(model, reason, request.remote_addr)}

    @routes.post("/resume")
    def resume() -> dict[str, Any]:
        given = field.json_body("model")
        return {"paused": False, "changed": operations.resume(field.text(given, "model"), request.remote_addr)}

    return routes
