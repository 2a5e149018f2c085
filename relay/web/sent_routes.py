"""What was sent, as a page and for programs. Rows, which are payloads, are read only with the operator's token."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from signalbus_core.lowlevel import SentFilter

from ..operations.sent import as_json
from ..text import redacted
from . import validation as field
from .actions import Operations
from .auth import Guard
from .template_helpers import HEADERS

#: So many signals are on the page.
MOST_SHOWN = 50


def sent_routes(operations: Operations, guard: Guard) -> Blueprint:
    routes = Blueprint("sent", __name__)

    @routes.get("/api/sent")
    def listed() -> dict[str, Any]:
        query = field.query("model", "key", "message_id", "limit")
        limit = field.number(query, "limit", 50, 1, field.MOST_LISTED)
        model, chosen = _chosen(query)
        found = operations.sent_signals(model, chosen, limit + 1)
        return {"signals": [as_json(one) for one in found[:limit]], "more": len(found) > limit}

    @routes.post("/api/sent/rows")
    def rows() -> dict[str, Any]:
        guard.check_bearer(request)
        given = field.json_body("model", "key")
        return {
            "signals": operations.sent_rows(field.text(given, "model"), field.text(given, "key"), request.remote_addr)
        }

    @routes.get("/sent")
    def page() -> ResponseReturnValue:
        given = {name: text for name, text in field.query("model", "key", "message_id").items() if text}
        model, chosen = _chosen(given)
        problem, found = None, []
        try:
            found = operations.sent_signals(model, chosen, MOST_SHOWN)
        except HTTPException as error:
            problem = error.description
        signals: Any = redacted([as_json(one) for one in found])
        return render_template("sent.html", signals=signals, given=given, problem=problem, home="./"), HEADERS

    return routes


def _chosen(given: dict[str, str]) -> tuple[str | None, SentFilter]:
    key, message_id = field.optional_text(given, "key"), field.optional_text(given, "message_id")
    return field.optional_text(given, "model"), SentFilter(key, message_id)
