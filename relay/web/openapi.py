"""The OpenAPI document: what every path takes and answers. Tests ask the relay in all ways that it allows.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import __version__
from . import fields as field
from .app import Handler
from .http import FORM, JSON, json_answer


def openapi_routes() -> dict[str, Mapping[str, Handler]]:
    """The handler of the document's path."""
    return {"/api/openapi.json": {"GET": lambda _request: json_answer(document())}}


def document() -> dict[str, Any]:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Signalbus relay",
            "version": __version__,
            "summary": "Whether signals flow, and what an operator can do about those that do not.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": {**_HEALTH, **_STATUS, **_PARKED, **_PAUSES, **_PAGES},
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "operator": {"type": "http", "scheme": "bearer", "description": "The relay's --operator-token."}
            },
        },
    }


def _object(properties: Mapping[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _array(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(name: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": field.LONGEST[name]}


def _answer(description: str, schema: Mapping[str, Any], content_type: str = JSON) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": dict(schema)}}}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): _answer(_REASONS[status], _ref("Error")) for status in statuses}


_REASONS = {
    400: "A field or the body cannot be read, or a name or a value is not allowed.",
    401: "The operator token is missing or wrong.",
    403: "The relay has no operator token, or no file for the record of what is discarded.",
    404: "There is no such signal model, or the signal is not set aside.",
    409: "A table that is needed for this is missing.",
    413: "The body is too large.",
    415: "The body is not of the type that is expected.",
    503: "The database does not answer in time, or is being asked for somebody else. Try again.",
}


def _get(summary: str, responses: Mapping[str, Any], parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"get": {"summary": summary, "parameters": parameters or [], "responses": dict(responses)}}


def _action(summary: str, body: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "security": [{"operator": []}],
            "requestBody": {"required": True, "content": {JSON: {"schema": dict(body)}}},
            "responses": {"200": _answer("Done.", answer), **_errors(400, 401, 403, 404, 409, 413, 415, 503)},
        }
    }


_STRING = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_NUMBER = {"type": "number", "minimum": 0}
_FLAG = {"type": "boolean"}
_MAYBE_STRING = {"type": ["string", "null"]}
_MOMENT = {"type": "string", "format": "date-time"}
_MAYBE_MOMENT = {"type": ["string", "null"], "format": "date-time"}
_CONDITION = {"enum": ["up", "down", "blocked", "unknown", "unused"]}

_SCHEMAS: dict[str, Any] = {
    "Error": _object({"error": _STRING}),
    "Liveness": _object({"alive": _FLAG, "reasons": _array(_STRING)}),
    "Dependency": _object({"condition": _CONDITION, "reason": _MAYBE_STRING, "since": _MOMENT}),
    "Readiness": _object(
        {
            "ready": _FLAG,
            "state": _STRING,
            "database": _ref("Dependency"),
            "broker": _ref("Dependency"),
            "reasons": _array(_STRING),
        }
    ),
    "Verdict": _object(
        {"level": {"enum": ["flowing", "attention", "stopped"]}, "text": _STRING, "notes": _array(_STRING)}
    ),
    "Relay": _object(
        {
            "state": _STRING,
            "ready": _FLAG,
            "version": _STRING,
            "started_at": _MOMENT,
            "uptime_seconds": _NUMBER,
            "last_success_at": _MAYBE_MOMENT,
            "reasons": _array(_STRING),
        }
    ),
    "Database": _object(
        {
            "name": _STRING,
            "location": _STRING,
            "condition": _CONDITION,
            "since": _MAYBE_MOMENT,
            "reason": _MAYBE_STRING,
        }
    ),
    "Broker": _object(
        {"location": _MAYBE_STRING, "condition": _CONDITION, "since": _MAYBE_MOMENT, "reason": _MAYBE_STRING}
    ),
    "Model": _object(
        {
            "name": _STRING,
            "measured_at": _MAYBE_MOMENT,
            "backlog": _COUNT,
            "backlog_counted_to": _COUNT,
            "lag_seconds": _NUMBER,
            "paused": {"oneOf": [_object({"seen_at": _MOMENT, "reason": _MAYBE_STRING}), {"type": "null"}]},
            "waiting": _COUNT,
            "parked": _COUNT,
            "sent": _COUNT,
            "last_sent_at": _MAYBE_MOMENT,
            "per_second": _NUMBER,
            "chart": _object({"bucket_seconds": _NUMBER, "counts": _array(_COUNT)}),
            "troubles": _array(_object({"since": _MOMENT, "reason": _STRING})),
            "last_error": {"oneOf": [_object({"at": _MOMENT, "reason": _STRING}), {"type": "null"}]},
        }
    ),
    "Worker": _object(
        {
            "name": _STRING,
            "doing": _STRING,
            "model": _MAYBE_STRING,
            "signals": {"type": ["integer", "null"]},
            "seconds": _NUMBER,
        }
    ),
    "Status": _object(
        {
            "verdict": _ref("Verdict"),
            "relay": _ref("Relay"),
            "databases": _array(_ref("Database")),
            "brokers": _array(_ref("Broker")),
            "models": _array(_ref("Model")),
            "workers": _array(_ref("Worker")),
        }
    ),
    "Signal": _object(
        {
            "model": _STRING,
            "key": _STRING,
            "state": {"enum": ["parked", "waiting"]},
            "table_name": _STRING,
            "attempts": _COUNT,
            "first_failed_at": _MOMENT,
            "last_failed_at": _MOMENT,
            "next_try_at": _MAYBE_MOMENT,
            "error_class": _STRING,
            "error_text": _STRING,
        }
    ),
    "Signals": _object({"signals": _array(_ref("Signal")), "more": _FLAG}),
}

_ALIVE = _get(
    "Whether every thread makes progress; never about database or broker.",
    {"200": _answer("It does.", _ref("Liveness")), "503": _answer("It does not.", _ref("Liveness"))},
)

_HEALTH = {
    "/livez": _ALIVE,
    "/healthz": _ALIVE,
    "/readyz": _get(
        "Whether signals flow: database and broker answer, and signals were sent, or none was pending, a while ago.",
        {"200": _answer("They do.", _ref("Readiness")), "503": _answer("They do not.", _ref("Readiness"))},
    ),
    "/metrics": _get(
        "The metrics, for Prometheus.",
        {"200": _answer("All of them.", _STRING, "text/plain")},
    ),
}

_STATUS = {
    "/api/status": _get(
        "What every part of the relay does, as its page shows it.", {"200": _answer("So it is.", _ref("Status"))}
    ),
    "/api/openapi.json": _get("This document.", {"200": _answer("It.", {"type": "object"})}),
}

_PARKED = {
    "/api/parked": _get(
        "Signals that are set aside, parked ones first; never their payload.",
        {"200": _answer("A part of them.", _ref("Signals")), **_errors(400, 404, 409, 503)},
        [
            {"name": "model", "in": "query", "schema": _text("model"), "description": "Only of this signal model."},
            {
                "name": "limit",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": field.MOST_LISTED, "default": 50},
                "description": "At most so many.",
            },
            {
                "name": "offset",
                "in": "query",
                "schema": {"type": "integer", "minimum": 0, "maximum": field.LAST_OFFSET, "default": 0},
                "description": "Without so many first ones.",
            },
        ],
    ),
    "/api/parked/retry": _action(
        "Have signals tried at once: one, all of a model, or all.",
        {
            "oneOf": [
                _object({"model": _text("model"), "key": _text("key")}, "key"),
                _object({"all": {"const": True}}),
            ]
        },
        _object({"retried": _COUNT}),
    ),
    "/api/parked/discard": _action(
        "Delete a signal that is set aside, unsent. Its row is written to the record file first.",
        _object({"model": _text("model"), "key": _text("key")}),
        _object({"discarded": {"const": 1}}),
    ),
}

_CHANGED = _object({"paused": _FLAG, "changed": _FLAG})

_PAUSES = {
    "/api/pause": _action(
        "Pause a signal model, for all relays.",
        _object({"model": _text("model"), "reason": _text("reason")}, "reason"),
        _CHANGED,
    ),
    "/api/resume": _action("Resume a signal model.", _object({"model": _text("model")}), _CHANGED),
}


def _page(summary: str, parameters: list[str], *statuses: int) -> dict[str, Any]:
    pages = {str(status): _answer(_REASONS[status], _STRING, "text/html") for status in statuses}
    texts = {str(status): _answer(_REASONS[status], _STRING, "text/plain") for status in statuses if status == 400}
    named = [{"name": name, "in": "query", "required": True, "schema": _text(name)} for name in parameters]
    return _get(summary, {"200": _answer("The page.", _STRING, "text/html"), **pages, **texts}, named)


def _form(summary: str, subject: list[str], *, asks_reason: bool = False) -> dict[str, Any]:
    shape = {name: _text(name) for name in (*subject, "token")}
    if asks_reason:
        shape["reason"] = {"type": "string", "maxLength": field.LONGEST["reason"]}
    answers = {
        str(status): {
            "description": _REASONS[status],
            "content": {"text/html": {"schema": _STRING}, "text/plain": {"schema": _STRING}},
        }
        for status in (400, 401, 403, 404, 409, 413, 415, 503)
    }
    post = {
        "summary": summary,
        "requestBody": {"required": True, "content": {FORM: {"schema": _object(shape, "reason")}}},
        "responses": {"200": _answer("What was done.", _STRING, "text/html"), **answers},
    }
    return {**_page(f"Ask first: {summary}", subject, 400), "post": post}


_PAGES = {
    "/": _page("The status page.", []),
    "/retry": _form("Have a signal tried at once.", ["model", "key"]),
    "/discard": _form("Discard a signal.", ["model", "key"]),
    "/pause": _form("Pause a signal model.", ["model"], asks_reason=True),
    "/resume": _form("Resume a signal model.", ["model"]),
}
