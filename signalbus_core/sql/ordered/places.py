"""The place of a signal in a burst of an ordered model. Pure.

Invariant: a burst has the earliest signals of a key and none behind a gap, so that a wave has at most one signal of a
key, and the next wave has the one that follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Place(NamedTuple):
    """The place of a signal.

    :param key: the number of its key in the burst.
    :param number: how many signals of its key come before it.
    """

    key: int
    number: int


def runs(signals: Iterable[T], place_of: Callable[[T], Place]) -> list[list[T]]:
    """Signals by key, each key's in order, up to the first one that is missing."""
    by_key: dict[int, dict[int, T]] = {}
    for signal in signals:
        key, number = place_of(signal)
        by_key.setdefault(key, {})[number] = signal
    found: list[list[T]] = []
    for numbered in by_key.values():
        run: list[T] = []
        while len(run) in numbered:
            run.append(numbered[len(run)])
        if run:
            found.append(run)
    return found


def takeable(rows: Sequence[tuple[Any, Sequence[Any], bool]], limit: int) -> list[tuple[Any, Place]]:
    """Of all rows, in the order of their positions, those that a burst takes, wave by wave.

    For databases in which there is one process.

    :param rows: of each its reference, its key, and whether it may be sent now. A key with None is no key.
    """
    by_key: dict[object, list[Any]] = {}
    blocked: set[object] = set()
    for number, (ref, key, is_free) in enumerate(rows):
        own: object = number if None in key else tuple(key)
        if not is_free:
            blocked.add(own)
        elif own not in blocked:
            by_key.setdefault(own, []).append(ref)
    placed = [
        (Place(number, place), ref) for number, refs in enumerate(by_key.values()) for place, ref in enumerate(refs)
    ]
    placed.sort(key=lambda one: (one[0].number, one[0].key))
    return [(ref, place) for place, ref in placed[:limit]]
