"""The OpenAPI document: requests and responses in JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import __version__
from . import validation as field
from .app import Handler
from .http import FORM, JSON, json_answer
from .parked_view import LAST_PAGE


def an_object(properties: Mapping[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def an_array(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def a_text(name: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": field.LONGEST[name]}


STRING = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
NUMBER = {"type": "number", "minimum": 0}
FLAG = {"type": "boolean"}
MAYBE_STRING = {"type": ["string", "null"]}
MOMENT = {"type": "string", "format": "date-time"}
MAYBE_MOMENT = {"type": ["string", "null"], "format": "date-time"}
CONDITION = {"enum": ["up", "down", "blocked", "unknown", "unused"]}

SCHEMAS: dict[str, Any] = {
    "Error": an_object({"error": STRING}),
    "Liveness": an_object({"alive": FLAG, "reasons": an_array(STRING)}),
    "Dependency": an_object({"condition": CONDITION, "reason": MAYBE_STRING, "since": MOMENT}),
    "Readiness": an_object(
        {
            "ready": FLAG,
            "state": STRING,
            "database": ref("Dependency"),
            "broker": ref("Dependency"),
            "reasons": an_array(STRING),
            "stuck_models": an_array(STRING),
        }
    ),
    "Verdict": an_object(
        {"level": {"enum": ["flowing", "attention", "stopped"]}, "text": STRING, "notes": an_array(STRING)}
    ),
    "Relay": an_object(
        {
            "state": STRING,
            "ready": FLAG,
            "version": STRING,
            "started_at": MOMENT,
            "uptime_seconds": NUMBER,
            "last_success_at": MAYBE_MOMENT,
            "reasons": an_array(STRING),
        }
    ),
    "Database": an_object(
        {
            "name": STRING,
            "location": STRING,
            "condition": CONDITION,
            "since": MAYBE_MOMENT,
            "reason": MAYBE_STRING,
            "horizon": {
                "oneOf": [
                    an_object({"models": an_array(STRING), "holder": STRING, "remedy": STRING, "seconds": NUMBER}),
                    {"type": "null"},
                ]
            },
        }
    ),
    "Broker": an_object(
        {"location": MAYBE_STRING, "condition": CONDITION, "since": MAYBE_MOMENT, "reason": MAYBE_STRING}
    ),
    "Model": an_object(
        {
            "name": STRING,
            "measured_at": MAYBE_MOMENT,
            "backlog": COUNT,
            "backlog_counted_to": COUNT,
            "lag_seconds": NUMBER,
            "paused": {"oneOf": [an_object({"seen_at": MOMENT, "reason": MAYBE_STRING}), {"type": "null"}]},
            "waiting": COUNT,
            "parked": COUNT,
            "sent": COUNT,
            "last_sent_at": MAYBE_MOMENT,
            "per_second": NUMBER,
            "chart": an_object({"bucket_seconds": NUMBER, "counts": an_array(COUNT)}),
            "failing": FLAG,
            "troubles": an_array(an_object({"since": MOMENT, "reason": STRING})),
            "last_error": {"oneOf": [an_object({"at": MOMENT, "reason": STRING}), {"type": "null"}]},
        }
    ),
    "Worker": an_object(
        {
            "name": STRING,
            "doing": STRING,
            "model": MAYBE_STRING,
            "signals": {"type": ["integer", "null"]},
            "seconds": NUMBER,
        }
    ),
    "Status": an_object(
        {
            "verdict": ref("Verdict"),
            "relay": ref("Relay"),
            "databases": an_array(ref("Database")),
            "brokers": an_array(ref("Broker")),
            "models": an_array(ref("Model")),
            "workers": an_array(ref("Worker")),
        }
    ),
    "Signal": an_object(
        {
            "model": STRING,
            "key": STRING,
            "state": {"enum": ["parked", "waiting"]},
            "table_name": STRING,
            "attempts": COUNT,
            "first_failed_at": MOMENT,
            "last_failed_at": MOMENT,
            "next_try_at": MAYBE_MOMENT,
            "error_class": STRING,
            "error_text": STRING,
        }
    ),
    "Signals": an_object({"signals": an_array(ref("Signal")), "more": FLAG}),
}


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
            "schemas": SCHEMAS,
            "securitySchemes": {
                "operator": {"type": "http", "scheme": "bearer", "description": "The relay's --operator-token."}
            },
        },
    }


def _answer(description: str, schema: Mapping[str, Any], content_type: str = JSON) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": dict(schema)}}}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): _answer(_REASONS[status], ref("Error")) for status in statuses}


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


_ALIVE = _get(
    "Whether every thread makes progress; never about database or broker.",
    {"200": _answer("It does.", ref("Liveness")), "503": _answer("It does not.", ref("Liveness"))},
)

_HEALTH = {
    "/livez": _ALIVE,
    "/healthz": _ALIVE,
    "/readyz": _get(
        "Whether signals flow: database and broker answer, and signals were sent, or none was pending, a while ago.",
        {"200": _answer("They do.", ref("Readiness")), "503": _answer("They do not.", ref("Readiness"))},
    ),
    "/metrics": _get(
        "The metrics, for Prometheus.",
        {"200": _answer("All of them.", STRING, "text/plain")},
    ),
}

_STATUS = {
    "/api/status": _get(
        "What every part of the relay does, as its page shows it.", {"200": _answer("So it is.", ref("Status"))}
    ),
    "/api/openapi.json": _get("This document.", {"200": _answer("It.", {"type": "object"})}),
}

_PARKED = {
    "/api/parked": _get(
        "Signals that are set aside, parked ones first; never their payload.",
        {"200": _answer("A part of them.", ref("Signals")), **_errors(400, 404, 409, 503)},
        [
            {"name": "model", "in": "query", "schema": a_text("model"), "description": "Only of this signal model."},
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
                an_object({"model": a_text("model"), "key": a_text("key")}, "key"),
                an_object({"all": {"const": True}}),
            ]
        },
        an_object({"retried": COUNT}),
    ),
    "/api/parked/discard": _action(
        "Delete a signal that is set aside, unsent. Its row is written to the record file first.",
        an_object({"model": a_text("model"), "key": a_text("key")}),
        an_object({"discarded": {"const": 1}}),
    ),
}

_CHANGED = an_object({"paused": FLAG, "changed": FLAG})

_PAUSES = {
    "/api/pause": _action(
        "Pause a signal model, for all relays.",
        an_object({"model": a_text("model"), "reason": a_text("reason")}, "reason"),
        _CHANGED,
    ),
    "/api/resume": _action("Resume a signal model.", an_object({"model": a_text("model")}), _CHANGED),
}


def _page(summary: str, parameters: list[str], *statuses: int) -> dict[str, Any]:
    pages = {str(status): _answer(_REASONS[status], STRING, "text/html") for status in statuses}
    texts = {str(status): _answer(_REASONS[status], STRING, "text/plain") for status in statuses if status == 400}
    named = [{"name": name, "in": "query", "required": True, "schema": a_text(name)} for name in parameters]
    return _get(summary, {"200": _answer("The page.", STRING, "text/html"), **pages, **texts}, named)


def _form(summary: str, subject: list[str], *, asks_reason: bool = False) -> dict[str, Any]:
    shape = {name: a_text(name) for name in (*subject, "token")}
    if asks_reason:
        shape["reason"] = {"type": "string", "maxLength": field.LONGEST["reason"]}
    answers = {
        str(status): {
            "description": _REASONS[status],
            "content": {"text/html": {"schema": STRING}, "text/plain": {"schema": STRING}},
        }
        for status in (400, 401, 403, 404, 409, 413, 415, 503)
    }
    post = {
        "summary": summary,
        "requestBody": {"required": True, "content": {FORM: {"schema": an_object(shape, "reason")}}},
        "responses": {"200": _answer("What was done.", STRING, "text/html"), **answers},
    }
    return {**_page(f"Ask first: {summary}", subject, 400), "post": post}


_PAGES = {
    "/": _get(
        "The status page.",
        {
            "200": _answer("The page.", STRING, "text/html"),
            "400": _answer(_REASONS[400], STRING, "text/plain"),
        },
        [
            {
                "name": "page",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": LAST_PAGE, "default": 1},
                "description": "Which page of the signals that are set aside.",
            }
        ],
    ),
    "/retry": _form("Have a signal tried at once.", ["model", "key"]),
    "/discard": _form("Discard a signal.", ["model", "key"]),
    "/pause": _form("Pause a signal model.", ["model"], asks_reason=True),
    "/resume": _form("Resume a signal model.", ["model"]),
}
