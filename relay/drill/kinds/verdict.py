"""Whether signals arrived in the order of their keys, and at their times. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: A scheduled signal that arrives later than so many seconds after its time is late: longer than any fault of a drill
#: and the recovery from it.
LATE_SECONDS = 30.0


def inverted(arrived: Iterable[int], places: Mapping[int, tuple[int, int]]) -> list[int]:
    """The numbers that arrived for the first time after a later one of their key.

    :param arrived: the numbers in the order of their first arrivals.
    :param places: of each number its key, and its place in the order of the commits.
    """
    found, latest = [], dict[int, int]()
    for number in arrived:
        if number in places:
            key, place = places[number]
            if place < latest.get(key, place):
                found.append(number)
            latest[key] = max(place, latest.get(key, place))
    return found


def too_early(arrivals: Mapping[int, float], due: Mapping[int, tuple[float, float]]) -> list[int]:
    """The numbers that arrived before the first moment at which they may have been due."""
    return [number for number, (earliest, _) in due.items() if arrivals.get(number, earliest) < earliest]


def too_late(arrivals: Mapping[int, float], due: Mapping[int, tuple[float, float]]) -> list[int]:
    """The numbers that arrived too long after the last moment at which they may have become due."""
    return [number for number, (_, latest) in due.items() if arrivals.get(number, latest) > latest + LATE_SECONDS]
