"""The JSON API for programs: failed signals, the operator's actions, and the OpenAPI document."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest

from ..operations.parked import as_json, group_as_json
from . import validation as field
from .actions import MOST_DISCARDED, Operations
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
        query = field.query("model", "group", "limit", "offset")
        limit = field.number(query, "limit", 50, 1, field.MOST_LISTED)
        offset = field.number(query, "offset", 0, 0, field.LAST_OFFSET)
        model, group = field.optional_text(query, "model"), field.optional_text(query, "group")
        found = operations.failed_signals(model, offset + limit + 1, group=group)
        shown = found[offset : offset + limit]
        return {"signals": [as_json(one) for one in shown], "more": len(found) > offset + limit}

    @routes.get("/parked/groups")
    def grouped() -> dict[str, Any]:
        query = field.query("model", "limit")
        limit = field.number(query, "limit", 50, 1, field.MOST_LISTED)
        found = operations.groups(field.optional_text(query, "model"), limit + 1)
        return {"groups": [group_as_json(one) for one in found[:limit]], "more": len(found) > limit}

    @routes.post("/parked/retry")
    def retry() -> dict[str, Any]:
        given = field.json_body("model", "key", "group", "all")
        model, group = field.optional_text(given, "model"), field.optional_text(given, "group")
        key = field.optional_text(given, "key")
        is_unclear = (key is not None or group is not None) and (model is None or None not in (key, group))
        if (model is None) != field.flag(given, "all") or is_unclear:
            raise BadRequest('Give a model, perhaps with a key or a group, or say that all are meant: {"all": true}.')
        return {"retried": operations.retry(model, key, request.remote_addr, group)}

    @routes.post("/parked/discard")
    def discard() -> dict[str, Any]:
        given = field.json_body("model", "key", "group", "limit")
        model, group = field.text(given, "model"), field.optional_text(given, "group")
        if group is None and "limit" not in given:
            operations.discard(model, field.text(given, "key"), request.remote_addr)
            return {"discarded": 1}
        if group is None or "key" in given:
            raise BadRequest("Give a key; or a group, with or without a limit.")
        most = field.whole_number(given, "limit", MOST_DISCARDED, 1, MOST_DISCARDED)
        number, left = operations.discard_group(model, group, most, request.remote_addr)
        return {"discarded": number, "left": left}

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
