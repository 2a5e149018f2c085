"""The places in a burst of the signals of an ordered model that were found. Pure.

A burst has up to thousands of them, so that the columns of all rows are worked on rather than the columns of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ...model.order import Place


def last_head(rows: Sequence[Sequence[Any]]) -> int | None:
    """The index of the row that is the head of the last key; None when none has a key."""
    keys, numbers = list(zip(*rows, strict=True))[:2]
    last = max(keys)
    return next((index for index, key in enumerate(keys) if key == last > 0 and numbers[index] == 0), None)


def placed(
    rows: Sequence[Sequence[Any]], limit: int, most_bytes: int, *, unkeyed_first: bool
) -> tuple[dict[Any, Place], bool]:
    """The places of the rows that a burst takes, wave by wave; and whether there may be more.

    :param rows: of each the number of its key, which is negative without a key; how many of its key come before it; its
      reference; its bytes.
    :param unkeyed_first: those without a key come before those with one.
    """
    if not rows:
        return {}, False
    keys, numbers, refs, sizes = list(zip(*rows, strict=True))[:4]
    if any(numbers) or min(keys) < 0:
        in_order = sorted(
            range(len(rows)), key=lambda one: (numbers[one], abs(keys[one]), (keys[one] < 0) is not unkeyed_first)
        )
        keys, numbers, refs, sizes = (
            tuple(map(column.__getitem__, in_order)) for column in (keys, numbers, refs, sizes)
        )
    fitting = len(rows) if sum(sizes) <= most_bytes else sum(total <= most_bytes for total in accumulate(sizes))
    taken = min(limit, max(1, fitting))
    is_cut = taken < len(rows) or (max(numbers[:taken]) + 2) * numbers.count(0) > limit
    return dict(zip(refs[:taken], map(Place, keys, numbers), strict=False)), is_cut


def takeable(rows: Sequence[tuple[Any, Sequence[Any], bool]], limit: int) -> list[tuple[Any, Place]]:
    """Of all rows, in the order of their positions, those that a burst takes, wave by wave: where there is one process.

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
