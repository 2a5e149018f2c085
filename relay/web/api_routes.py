"""The JSON API for programs: failed signals, and the operator's actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..operations.parked import as_json
from . import validation as field
from .actions import Operations
from .app import Handler
from .auth import Guard
from .http import JSON, Answer, Request, json_answer


def api_routes(operations: Operations, guard: Guard) -> dict[str, Mapping[str, Handler]]:
    """The handlers of these paths."""

    def listed(request: Request) -> Answer:
        query = request.query()
        field.only(query, ("model", "limit", "offset"))
        limit = field.number(query, "limit", 50, 1, field.MOST_LISTED)
        offset = field.number(query, "offset", 0, 0, field.LAST_OFFSET)
        found = operations.set_aside(field.optional_text(query, "model"), None, offset + limit + 1)
        shown = found[offset : offset + limit]
        return json_answer({"signals": [as_json(one) for one in shown], "more": len(found) > offset + limit})

    def retry(request: Request, given: Mapping[str, Any]) -> dict[str, Any]:
        field.only(given, ("model", "key", "all"))
        model, key = field.optional_text(given, "model"), field.optional_text(given, "key")
        if (model is None) != field.flag(given, "all") or (key is not None and model is None):
            raise field.bad('Give a model, with or without a key, or say that all are meant: {"all": true}.')
        return {"retried": operations.retry(model, key, request.address)}

    def discard(request: Request, given: Mapping[str, Any]) -> dict[str, Any]:
        field.only(given, ("model", "key"))
        operations.discard(field.text(given, "model"), field.text(given, "key"), request.address)
        return {"discarded": 1}

    def pause(request: Request, given: Mapping[str, Any]) -> dict[str, Any]:
        field.only(given, ("model", "reason"))
        model, reason = field.text(given, "model"), field.optional_text(given, "reason")
        return {"paused": True, "changed": operations.pause(model, reason, request.address)}

    def resume(request: Request, given: Mapping[str, Any]) -> dict[str, Any]:
        field.only(given, ("model",))
        return {"paused": False, "changed": operations.resume(field.text(given, "model"), request.address)}

    def action(act: Callable[[Request, Mapping[str, Any]], dict[str, Any]]) -> Mapping[str, Handler]:
        def handler(request: Request) -> Answer:
            # Before any part of an unauthorised request's body is read.
            guard.check_bearer(request)
            return json_answer(act(request, request.fields(JSON)))

        return {"POST": handler}

    return {
        "/api/parked": {"GET": listed},
        "/api/parked/retry": action(retry),
        "/api/parked/discard": action(discard),
        "/api/pause": action(pause),
        "/api/resume": action(resume),
    }
