"""Describes the signals of an application: what its models declare and, of the rest, what its pending signals show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import getattr_static
from typing import Any

from signalbus_core.lowlevel import SignalSpec
from signalbus_core.rabbitmq import BuiltSignal, Message, sends_itself

from ..exit_codes import CommandError
from .described import CONTENT, HEADERS, PAYLOAD, ROUTE, Described
from .shape import shape_of

#: A part of a routing key that may be written down. Others may be data, as an id of a customer is.
_PART = re.compile(r"[A-Za-z*#_-][A-Za-z_-]{0,31}[0-9]?[A-Za-z_-]{0,31}")

#: If a part of the routing keys of a signal has more values, it is taken for data.
MOST_VALUES = 8


@dataclass(frozen=True)
class _Sample:
    model: type[Any]
    message: Message

    @property
    def kind(self) -> tuple[str, str]:
        return self.message.properties.type, self.message.exchange  # type: ignore[union-attr,return-value]


def describe(specs: Iterable[SignalSpec], build: Callable[[SignalSpec], Iterable[BuiltSignal]]) -> list[Described]:
    """The descriptions of these models, sorted.

    :param build: returns pending signals of a model.
    :raises CommandError: a schema that a model gives is none.
    """
    return sorted((one for spec in specs for one in _describe(spec, build)), key=lambda one: one.order)


def _describe(spec: SignalSpec, build: Callable[[SignalSpec], Iterable[BuiltSignal]]) -> Iterator[Described]:
    classes = [one.class_ for one in spec.mapper.self_and_descendants if not one.polymorphic_abstract]
    by_class: dict[type[Any], list[_Sample]] = {}
    if not all(map(sends_itself, classes)):
        for built in build(spec):
            if not sends_itself(built.model):
                by_class.setdefault(built.model, []).extend(_Sample(built.model, one) for one in built.messages)
    for model in classes:
        if sends_itself(model):
            yield Described(spec.name, model.__name__, sends_itself=True)
            continue
        usual = Described(
            spec.name,
            model.__name__,
            _declared_text(model, "signalbus_exchange"),
            _declared_text(model, "signalbus_routing_key"),
            payload=declared_schema(model),
        )
        yield from _of_samples(usual, by_class.get(model, [])) or [usual]


def _of_samples(usual: Described, samples: Sequence[_Sample]) -> list[Described]:
    by_kind: dict[tuple[str, str], list[_Sample]] = {}
    for sample in samples:
        by_kind.setdefault(sample.kind, []).append(sample)
    found = []
    for (kind, exchange), alike in by_kind.items():
        keys = _templates({str(one.message.routing_key) for one in alike}, usual.routing_key)
        groups: dict[tuple[str, str], list[Message]] = {}
        for one in alike:
            properties: Any = one.message.properties
            group = (keys[str(one.message.routing_key)], str(properties.content_type))
            groups.setdefault(group, []).append(one.message)
        found += [
            _described(replace(usual, kind=kind, exchange=exchange), usual, *group, messages)
            for group, messages in groups.items()
        ]
    return found


def _described(
    one: Described, usual: Described, routing_key: str, content_type: str, messages: Sequence[Message]
) -> Described:
    sampled = {CONTENT}
    if (one.exchange, routing_key) != (usual.exchange, usual.routing_key):
        sampled.add(ROUTE)
    headers = [properties.headers for message in messages if (properties := message.properties) and properties.headers]
    if headers:
        sampled.add(HEADERS)
    payload = usual.payload
    if payload is None and (payload := _shape_of_bodies(content_type, messages)) is not None:
        sampled.add(PAYLOAD)
    return replace(
        one,
        routing_key=routing_key,
        content_type=content_type,
        headers=shape_of([*headers, *([{}] if len(headers) < len(messages) else [])]) if headers else None,
        payload=payload,
        sampled=frozenset(sampled),
    )


def _shape_of_bodies(content_type: str, messages: Sequence[Message]) -> Mapping[str, Any] | None:
    is_json, is_text = "json" in content_type, all(isinstance(one.body, str) for one in messages)
    try:
        values = [json.loads(bytes(one.body) if isinstance(one.body, memoryview) else one.body) for one in messages]
    except (ValueError, RecursionError):
        values = []
    # A text that happens to be a number is no JSON.
    if values and (is_json or all(isinstance(value, (dict, list)) for value in values)):
        return shape_of(values)
    return {"type": "string"} if is_text else None


def _templates(keys: set[str], usual: str | None) -> dict[str, str]:
    """What each routing key is written as: parts that may be data are replaced by a parameter."""
    sizes: dict[int, list[list[str]]] = {}
    for key in keys - {usual}:
        parts = key.split(".")
        sizes.setdefault(len(parts), []).append(parts)
    written = {} if usual is None else {usual: usual}
    for alike in sizes.values():
        is_data = [
            len(set(values)) > MOST_VALUES or any(value and not _PART.fullmatch(value) for value in values)
            for values in zip(*alike, strict=True)
        ]
        for parts in alike:
            shown = [
                f"{{part{number}}}" if data else part
                for number, (part, data) in enumerate(zip(parts, is_data, strict=True), start=1)
            ]
            written[".".join(parts)] = ".".join(shown)
    return written


def _declared_text(model: type[Any], name: str) -> str | None:
    value = getattr_static(model, name, None)
    return value if isinstance(value, str) else None


def declared_schema(model: type[Any]) -> Mapping[str, Any] | None:
    """The schema that a model gives; None when it gives none.

    :raises CommandError: it is no JSON Schema.
    """
    given = getattr(model, "signalbus_schema", None)
    where = f"{model.__name__}.signalbus_schema"
    if callable(given):
        try:
            given = given()
        except Exception as error:
            raise CommandError(f"{where}() raised {type(error).__name__}: {error}") from error
    if given is None:
        return None
    try:
        plain = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CommandError(f"{where} cannot be written as JSON: {error}.") from None
    if not isinstance(plain, dict):
        raise CommandError(f"{where} must be a JSON Schema, a mapping or a callable that returns one.")
    return plain
