"""Checks in tests of applications that signals of one key arrive in their order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

M = TypeVar("M")


def assert_order(
    messages: Iterable[M],
    *,
    key: Callable[[M], Hashable],
    position: Callable[[M], Any],
) -> None:
    """Assert that the first arrivals of each key are in order. Repeated messages are allowed.

    ::

        assert_order(received, key=lambda one: one.json["account"], position=lambda one: one.json["version"])

    :param messages: as they arrived.
    :param key: of a message; a message whose key is None has no order.
    :param position: of a message among those of its key: anything that can be compared, the same when it is repeated.
    :raises AssertionError: a message arrived for the first time after a later one of its key.
    """
    latest: dict[Hashable, Any] = {}
    seen: dict[Hashable, set[Any]] = {}
    for number, message in enumerate(messages):
        own, place = key(message), position(message)
        if own is None or place in seen.setdefault(own, set()):
            continue
        seen[own].add(place)
        if own in latest and place < latest[own]:
            raise AssertionError(
                f"Message {number} has position {place!r} of the key {own!r}, and arrived for the first time after "
                f"{latest[own]!r}."
            )
        latest[own] = place
