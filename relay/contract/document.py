"""A contract as an AsyncAPI 3.0 document, and back. Its text depends on nothing but the descriptions.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .described import CONTENT, HEADERS, PAYLOAD, ROUTE, Described

BINDING_VERSION = "0.3.0"

#: What the application does, in the words of AsyncAPI.
ACTION = "send"

MESSAGE_ID = (
    "The property message_id names one signal for ever, and is the same on every resend; further messages of the "
    "signal have #2, #3 behind it. Drop messages whose id was processed before."
)

_OWN = "It is sent by a send method of its own, so nothing is known of its messages."

#: Characters that no name in ``components`` may have.
_UNUSABLE = re.compile(r"[^A-Za-z0-9._-]")

#: The parts of a schema whose names are not its own words.
_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")

#: The parts of a schema that are values: what looks like a reference in them is none.
_VALUES = ("const", "default", "enum", "examples")

_PARAMETER = re.compile(r"\{(\w+)\}")


class DocumentError(Exception):
    """The text is no description that this program wrote; the text says why."""


def to_document(described: Sequence[Described], title: str, version: str) -> dict[str, Any]:
    """The document of a contract."""
    names = _names(described)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version, "description": MESSAGE_ID},
        "channels": {name: _channel(name, one) for name, one in zip(names, described, strict=True)},
        "operations": {f"send.{name}": _operation(name) for name in names},
        "components": {"messages": {name: _message(name, one) for name, one in zip(names, described, strict=True)}},
    }


def to_text(document: Mapping[str, Any]) -> str:
    """The document as JSON, sorted."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)


def _names(described: Sequence[Described]) -> list[str]:
    """A name for each of the descriptions, which are sorted."""
    names: list[str] = []
    for one in described:
        alone = sum(other.signal == one.signal for other in described) == 1
        name = one.signal if alone or one.kind == one.signal else f"{one.signal}.{one.kind}"
        name = first = _UNUSABLE.sub("_", name)
        number = 1
        while name in names:
            number += 1
            name = f"{first}-{number}"
        names.append(name)
    return names


def _channel(name: str, one: Described) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": one.routing_key,
        "title": one.signal,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }
    if one.exchange is not None:
        channel["bindings"] = {
            "amqp": {"is": "routingKey", "exchange": {"name": one.exchange}, "bindingVersion": BINDING_VERSION}
        }
    if parameters := _PARAMETER.findall(one.routing_key or ""):
        channel["parameters"] = {
            parameter: {"description": "It differs from signal to signal."} for parameter in parameters
        }
    return channel


def _operation(name: str) -> dict[str, Any]:
    return {
        "action": ACTION,
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
    }


def _message(name: str, one: Described) -> dict[str, Any]:
    message: dict[str, Any] = {"name": one.kind, "title": one.signal, "x-signalbus-signal": one.signal}
    if one.sends_itself:
        return {**message, "description": _OWN, "x-signalbus-sends-itself": True}
    message["bindings"] = {"amqp": {"messageType": one.kind, "bindingVersion": BINDING_VERSION}}
    message["x-signalbus-message-id"] = "signalbus_id"
    if one.content_type is not None:
        message["contentType"] = one.content_type
    if one.headers is not None:
        message["headers"] = dict(one.headers)
    if one.payload is not None:
        message["payload"] = _at(one.payload, f"#/components/messages/{name}/payload")
    if one.sampled:
        message["x-signalbus-sampled"] = sorted(one.sampled)
    return message


def _at(schema: Any, place: str) -> Any:
    """A schema that stands at this place of the document: its references lead there."""
    if isinstance(schema, Mapping):
        return {name: _part_at(name, value, place) for name, value in schema.items() if name not in ("$schema", "$id")}
    return [_at(one, place) for one in schema] if isinstance(schema, list) else schema


def _part_at(name: str, value: Any, place: str) -> Any:
    if name in _NAMED and isinstance(value, Mapping):
        return {key: _at(one, place) for key, one in value.items()}
    if name in _VALUES:
        return value
    return f"{place}{value[1:]}" if name == "$ref" and str(value).startswith("#") else _at(value, place)


def from_text(text: str) -> list[Described]:
    """The descriptions of a document.

    :raises DocumentError: it is no such document.
    """
    try:
        document = json.loads(text)
        if not str(document["asyncapi"]).startswith("3."):
            raise DocumentError(f"it is AsyncAPI {document['asyncapi']}, and 3.0 is expected")
        return sorted(_of_channels(document), key=lambda one: one.order)
    except json.JSONDecodeError as error:
        raise DocumentError(f"it is no JSON: {error}") from None
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DocumentError(
            f"it is no AsyncAPI document that `describe` wrote ({type(error).__name__}: {error})"
        ) from None


def _of_channels(document: Mapping[str, Any]) -> Iterator[Described]:
    for channel in document["channels"].values():
        amqp = channel.get("bindings", {}).get("amqp", {})
        for reference in channel["messages"].values():
            message = _target(document, reference["$ref"])
            sampled = frozenset(message.get("x-signalbus-sampled", ())) & {ROUTE, CONTENT, HEADERS, PAYLOAD}
            yield Described(
                message["x-signalbus-signal"],
                message["name"],
                amqp.get("exchange", {}).get("name"),
                channel["address"],
                message.get("contentType"),
                _expanded(document, message.get("headers"), ()),
                _expanded(document, message.get("payload"), ()),
                sampled,
                bool(message.get("x-signalbus-sends-itself")),
            )


def _expanded(document: Mapping[str, Any], schema: Any, passed: tuple[str, ...]) -> Any:
    """A schema with its references replaced by what they lead to; one that leads back to itself fits everything."""
    if isinstance(schema, list):
        return [_expanded(document, one, passed) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        if reference in passed:
            return {}
        others = {name: value for name, value in schema.items() if name != "$ref"}
        target = {**_target(document, reference), **others}
        return _expanded(document, target, (*passed, reference))
    return {name: _part_expanded(document, name, value, passed) for name, value in schema.items()}


def _part_expanded(document: Mapping[str, Any], name: str, value: Any, passed: tuple[str, ...]) -> Any:
    if name in _NAMED and isinstance(value, Mapping):
        return {key: _expanded(document, one, passed) for key, one in value.items()}
    return value if name in _VALUES else _expanded(document, value, passed)


def _target(document: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document
