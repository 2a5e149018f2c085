"""The page of the HTTP API in docs/reference/, from the OpenAPI document that relays serve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relay.web.openapi import document

DOCUMENT = document()


def operations() -> list[str]:
    """Each path for programs, with its parameters, body and answers."""
    lines: list[str] = []
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/api/") or path in ("/livez", "/readyz", "/metrics"):
                lines += ["", f"### {method.upper()} {path}", "", *_operation(operation)]
    return lines[1:]


def schemas() -> list[str]:
    """Each schema of an answer that has fields, and those fields."""
    lines: list[str] = []
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if schema.get("properties"):
            lines += ["", f"### {name}", "", "| field | is |", "| --- | --- |"]
            lines += [f"| `{field}` | {_type(value)} |" for field, value in _fields(schema)]
    return lines[1:]


def _operation(operation: dict[str, Any]) -> Iterator[str]:
    yield operation["summary"] + (" Needs the operator token." if "security" in operation else "")
    if parameters := [_resolved(one) for one in operation.get("parameters", ())]:
        yield from ("", "| query | is | |", "| --- | --- | --- |")
        for one in parameters:
            yield f"| `{one['name']}` | {_type(one['schema'])} | {one.get('description', '')} |"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield from ("", "The body is a JSON object, " + _type(content["schema"]) + ".")
    yield from ("", "| status | answer |", "| --- | --- |")
    for status, answer in operation["responses"].items():
        yield f"| {status} | {_answer(_resolved(answer))} |"


def _answer(answer: dict[str, Any]) -> str:
    schemas = [
        content["schema"] for content in answer.get("content", {}).values() if "$ref" in content.get("schema", {})
    ]
    return " ".join([answer["description"], *(f"{_type(schema)}." for schema in schemas)])


def _resolved(value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    *_, kind, name = value["$ref"].split("/")
    found: dict[str, Any] = DOCUMENT["components"][kind][name]
    return found


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of an object, those of objects in it too, with a dot between the names."""
    for name, value in schema["properties"].items():
        yield name, value
        inner = value.get("items", value)
        if inner.get("properties"):
            yield from ((f"{name}.{field}", one) for field, one in _fields(inner))


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        target = DOCUMENT["components"]["schemas"].get(name, {})
        return f"[{name}](#{name.lower()})" if target.get("properties") else _type(target)
    if "oneOf" in schema:
        return ", or ".join(dict.fromkeys(_type(one) for one in schema["oneOf"]))
    if "const" in schema:
        return f"`{str(schema['const']).lower()}`"
    if "enum" in schema:
        return ", ".join(f"`{'null' if one is None else one}`" for one in schema["enum"])
    kinds = schema.get("type", "any value")
    text = " or ".join(kinds) if isinstance(kinds, list) else kinds
    if text == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if text == "object" and schema.get("properties"):
        required = schema.get("required", ())
        names = (f"`{name}`" + ("" if name in required else " (may be missing)") for name in schema["properties"])
        return "object with " + ", ".join(names)
    if text == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object, by name: {_type(schema['additionalProperties'])}"
    return " ".join([text, *_limits(schema)])


def _limits(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("format") == "date-time":
        yield "(a time, ISO 8601)"
    if "maximum" in schema:
        yield f"from {schema.get('minimum', 0)} to {schema['maximum']}"
    if "maxLength" in schema:
        yield f"of at most {schema['maxLength']} characters"
    if "default" in schema:
        yield f"(default {schema['default']})"
