"""What requests and answers look like, in the words of JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import fields as field


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
