"""The small chart of a model: how much was sent in each bucket of the last minutes, as SVG paths. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: The height of a chart, in its own units; a bucket is one unit wide.
HEIGHT = 32.0

#: Kept free above the highest point, so that its line is not cut.
MARGIN = 2.0


def line(chart: Mapping[str, Any]) -> str:
    """The path along the tops of the buckets."""
    points = _points(chart["counts"])
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def area(chart: Mapping[str, Any]) -> str:
    """The path around what is below the line."""
    points = _points(chart["counts"])
    return f"{line(chart)}V{HEIGHT:g}H{points[0][0]:g}Z"


def _points(counts: Sequence[int]) -> list[tuple[float, float]]:
    highest = max(counts, default=0) or 1
    room = HEIGHT - MARGIN - 0.5
    tops = [round(HEIGHT - 0.5 - room * count / highest, 1) for count in counts] or [HEIGHT]
    # The first and the last reach the edges.
    return [(0.0, tops[0]), *((place + 0.5, top) for place, top in enumerate(tops)), (float(len(tops)), tops[-1])]


def chart_text(model: Mapping[str, Any]) -> str:
    """What the chart shows, in words."""
    chart = model["chart"]
    highest = max(chart["counts"], default=0) / chart["bucket_seconds"]
    if not highest:
        return "Nothing was sent in the last ten minutes."
    return f"Sent a second: now {figure(model['per_second'])}, at most {figure(highest)} in the last ten minutes."


def figure(number: float) -> str:
    """A rate, with no more digits than it is worth."""
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"
