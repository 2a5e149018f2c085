"""What in a schema of messages breaks those who read them: whatever new messages may be that old ones were not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Words with which a schema limits values, and whether a larger number allows more.
_LIMITS = {
    "maximum": True,
    "exclusiveMaximum": True,
    "maxLength": True,
    "maxItems": True,
    "maxProperties": True,
    "minimum": False,
    "exclusiveMinimum": False,
    "minLength": False,
    "minItems": False,
    "minProperties": False,
}

#: Words that must stay as they are.
_EXACT = ("format", "pattern", "multipleOf", "uniqueItems", "contentEncoding", "contentMediaType")

#: Words with which a schema says more than is compared here. If one changes, a person has to judge.
_UNJUDGED = (
    "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas",
    "patternProperties", "propertyNames", "contains", "prefixItems", "additionalItems",
)  # fmt: skip

Schema = Mapping[str, Any]


def breaking_changes(old: Any, new: Any, path: str, *, is_certain: bool) -> Iterator[str]:
    """What a reader of the old messages may trip over, each as the end of a sentence.

    :param path: of the value, for people: empty for the whole body.
    :param is_certain: the new schema is declared. In one that was sampled, a field that is optional may be missing by
      chance.
    """
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        # True allows everything, False nothing.
        if old != new and old is not True:
            yield f"{_named(path)} changed its schema; compare it by hand"
        return
    before, after = _plain(old), _plain(new)
    if any(_text(before.get(word)) != _text(after.get(word)) for word in _UNJUDGED):
        yield f"{_named(path)} changed in {_words(before, after)}, which is not compared; compare it by hand"
        return
    if (types := _types_change(before, after)) is not None:
        yield f"{_named(path)} {types}"
        return
    yield from _changes_of_values(before, after, path)
    yield from _changes_of_fields(before, after, path, is_certain=is_certain)
    for word, place in (("items", f"{path}[]"), ("additionalProperties", f"{path}.*" if path else "*")):
        inside = before.get(word)
        if isinstance(inside, Mapping) and isinstance(after.get(word), Mapping):
            yield from breaking_changes(inside, after[word], place, is_certain=is_certain)
        elif isinstance(inside, Mapping) and inside and is_certain and after.get(word, True) is True:
            yield f"{_named(place)} may now be anything"


def _changes_of_fields(before: Schema, after: Schema, path: str, *, is_certain: bool) -> Iterator[str]:
    fields, present = before.get("properties", {}), after.get("properties", {})
    required, still_required = set(before.get("required", ())), set(after.get("required", ()))
    for name in sorted({*fields, *required}):
        place = f"{path}.{name}" if path else name
        if name not in present:
            if name in still_required:
                yield from () if _is_open(fields.get(name)) else [f"{_named(place)} may now be anything"]
            elif is_certain or name in required:
                yield f"{_named(place)} is gone"
            continue
        yield from breaking_changes(fields.get(name, {}), present[name], place, is_certain=is_certain)
        if name in required and name not in still_required:
            yield f"{_named(place)} became optional"


def _types_change(before: Schema, after: Schema) -> str | None:
    old, new = _types(before), _types(after)
    if old is None or (new is not None and all(kind in old or (kind == "integer" and "number" in old) for kind in new)):
        return None
    return f"changed its type from {_listed(old)} to {'anything' if new is None else _listed(new)}"


def _changes_of_values(before: Schema, after: Schema, path: str) -> Iterator[str]:
    old, new = _values(before), _values(after)
    if old is not None and (new is None or not set(new) <= set(old)):
        added = "any value" if new is None else ", ".join(sorted(set(new) - set(old)))
        yield f"{_named(path)} may now be {added}"
    for word, is_upper in _LIMITS.items():
        if word in before and (word not in after or _allows_more(before[word], after[word], is_upper=is_upper)):
            yield f"{_named(path)} is limited less by {word}"
    for word in _EXACT:
        if word in before and _text(before[word]) != _text(after.get(word)):
            yield f"{_named(path)} changed its {word}"


def _allows_more(old: Any, new: Any, *, is_upper: bool) -> bool:
    """Whether a limit allows more than before. One that is no number counts as such a limit when it changed."""
    if not all(type(limit) in (int, float) for limit in (old, new)):
        return _text(old) != _text(new)
    return bool(new > old if is_upper else new < old)


def _plain(schema: Schema) -> Schema:
    """The same schema without what tools write around it: a single ``allOf``, and ``anyOf`` of simple types."""
    plain = {
        word: value for word, value in schema.items() if word not in ("title", "description", "default", "examples")
    }
    for word in ("allOf", "anyOf", "oneOf"):
        if isinstance(plain.get(word), Sequence) and len(plain[word]) == 1 and isinstance(plain[word][0], Mapping):
            [only] = plain.pop(word)
            plain = {**_plain(only), **plain}
    for word in ("anyOf", "oneOf"):
        parts = plain.get(word)
        if isinstance(parts, Sequence) and all(isinstance(one, Mapping) for one in parts):
            plain = _joined(plain, word, [_plain(one) for one in parts])
    return plain


def _joined(plain: Schema, word: str, parts: Sequence[Schema]) -> dict[str, Any]:
    """Alternatives of which at most one says more than its type, as one schema."""
    kinds = [_types(one) for one in parts]
    detailed = [one for one in parts if set(one) - {"type"}]
    if len(detailed) > 1 or None in kinds:
        return dict(plain)
    others = {name: value for name, value in plain.items() if name != word}
    joined = sorted({kind for one in kinds for kind in one or ()})
    return {**others, **(detailed[0] if detailed else {}), "type": joined}


def _types(schema: Schema) -> list[str] | None:
    kind = schema.get("type")
    if kind is None and (values := schema.get("enum", [schema["const"]] if "const" in schema else None)) is not None:
        return sorted({_JSON_TYPES.get(type(value), "null") for value in values})
    return None if kind is None else sorted([kind] if isinstance(kind, str) else kind)


_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}


def _values(schema: Schema) -> list[str] | None:
    if "const" in schema:
        return [_text(schema["const"])]
    return [_text(value) for value in schema["enum"]] if "enum" in schema else None


def _is_open(schema: object) -> bool:
    return schema is None or schema is True or schema == {}


def _words(before: Schema, after: Schema) -> str:
    return ", ".join(word for word in _UNJUDGED if _text(before.get(word)) != _text(after.get(word)))


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _named(path: str) -> str:
    return f"the field {path}" if path else "the body"


def _listed(kinds: Sequence[str]) -> str:
    return " or ".join(kinds)
