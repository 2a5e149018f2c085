"""What in a new contract breaks the consumers of an old one. Each change is one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .described import HEADERS, PAYLOAD, ROUTE, Described
from .schema_changes import breaking_changes


@dataclass(frozen=True)
class Comparison:
    """Two contracts compared.

    :param breaking: what breaks consumers.
    :param unknown: what could not be compared, because nothing pending shows it.
    """

    breaking: tuple[str, ...]
    unknown: tuple[str, ...]


def compare(old: Sequence[Described], new: Sequence[Described]) -> Comparison:
    """Compare two contracts."""
    breaking: list[str] = []
    unknown: list[str] = []
    for one in old:
        if not one.sends_itself:
            _compare(one, [other for other in new if other.signal == one.signal], breaking.append, unknown.append)
    for signal in sorted({one.signal for one in old if one.sends_itself} - {one.signal for one in new}):
        breaking.append(f"{signal} is gone.")
    return Comparison(tuple(dict.fromkeys(breaking)), tuple(dict.fromkeys(unknown)))


def _compare(
    old: Described, candidates: Sequence[Described], broken: Callable[[str], None], unknown: Callable[[str], None]
) -> None:
    if not candidates:
        broken(f"{old.signal} is gone.")
        return
    if all(one.sends_itself for one in candidates):
        broken(f"{old.signal} is now sent by a send method of its own, so nothing is known of its messages.")
        return
    candidates = [one for one in candidates if not one.sends_itself]
    alike = [one for one in candidates if one.kind == old.kind]
    if not alike:
        kinds = ", ".join(sorted({one.kind for one in candidates}))
        broken(f"{old.signal}: the type of its messages changed from {old.kind} to {kinds}.")
        return
    exact = [one for one in alike if (one.exchange, one.routing_key) == (old.exchange, old.routing_key)]
    if not exact:
        _compare_routes(old, alike, broken, unknown)
        exact = alike
    same_content = [one for one in exact if one.content_type == old.content_type]
    _compare_contents(old, (same_content or exact)[0], broken, unknown)


def _compare_routes(
    old: Described, alike: Sequence[Described], broken: Callable[[str], None], unknown: Callable[[str], None]
) -> None:
    if old.exchange is None and old.routing_key is None:
        return
    if not any(ROUTE in one.sampled or one.content_type is not None for one in alike) and (
        ROUTE in old.sampled or not any(one.has_route for one in alike)
    ):
        unknown(f"{old.signal}: no signal is pending, so its exchange and routing key are not compared.")
        return
    exchanges = sorted({str(one.exchange) for one in alike})
    if old.exchange is not None and old.exchange not in exchanges:
        broken(f"{old.signal}: its exchange changed from {old.exchange!r} to {_quoted(exchanges)}.")
    keys = sorted(
        {str(one.routing_key) for one in alike if one.exchange == old.exchange}
        or {str(one.routing_key) for one in alike}
    )
    if old.routing_key is not None and old.routing_key not in keys:
        broken(f"{old.signal}: its routing key changed from {old.routing_key!r} to {_quoted(keys)}.")


def _compare_contents(
    old: Described, new: Described, broken: Callable[[str], None], unknown: Callable[[str], None]
) -> None:
    if old.content_type is not None and new.content_type is None:
        unknown(f"{old.signal}: no signal is pending, so its content type and headers are not compared.")
    elif old.content_type not in (None, new.content_type):
        broken(f"{old.signal}: its content type changed from {old.content_type} to {new.content_type}.")
    if old.headers is not None and new.content_type is not None:
        for change in breaking_changes(
            old.headers, new.headers or {"type": "object"}, "", is_certain=HEADERS not in new.sampled
        ):
            broken(f"{old.signal}: {change.replace('the field', 'the header').replace('the body', 'its headers')}.")
    for sentence in _payload_changes(old, new, unknown):
        broken(f"{old.signal}: {sentence}.")


def _payload_changes(old: Described, new: Described, unknown: Callable[[str], None]) -> Iterator[str]:
    if old.payload is None:
        return
    if new.payload is not None:
        yield from breaking_changes(old.payload, new.payload, "", is_certain=PAYLOAD not in new.sampled)
    elif PAYLOAD not in old.sampled:
        yield "it has no schema any more"
    elif new.content_type is None:
        unknown(f"{old.signal}: no signal is pending, so its fields are not compared.")
    else:
        yield "its body is no longer text, or JSON"


def _quoted(texts: Sequence[str]) -> str:
    return " or ".join(repr(text) for text in texts)
