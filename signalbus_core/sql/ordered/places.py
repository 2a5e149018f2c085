"""Which signals of an ordered model a burst takes, in databases in which there is one process. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...model.order import Place


def takeable(rows: Sequence[tuple[Any, Sequence[Any], bool]], limit: int) -> list[tuple[Any, Place]]:
    """Of all rows, in the order of their positions, those that a burst takes, wave by wave.

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
