"""A bar chart as SVG: a bar for each median, a line for the spread. Legible on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

from ..section import Figure
from .numbers import number

WIDTH, LABEL, BAR, GAP, TOP = 800, 290, 20, 10, 44
SPAN = WIDTH - LABEL - 120

STYLE = (
    "text{font:13px sans-serif;fill:#222}.title{font-weight:600}.bar{fill:#3b7dbd}.other{fill:#b9c4cf}"
    ".spread{stroke:#222;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.other{fill:#5a6672}.spread{stroke:#ddd}}"
)


@dataclass(frozen=True)
class Bar:
    """One bar.

    :param is_other: what the others are compared with; drawn paler.
    """

    label: str
    figure: Figure
    is_other: bool = False


def chart(title: str, bars: Sequence[Bar], *, digits: int = 0, logarithmic: bool = False) -> str:
    """Draw the bars below each other."""
    height = TOP + len(bars) * (BAR + GAP)
    largest = max(bar.figure.high for bar in bars)
    smallest = min(bar.figure.low for bar in bars)

    def x(value: float) -> float:
        if not logarithmic:
            return LABEL + SPAN * value / largest
        decades = log10(largest) - log10(smallest / 2)
        return LABEL + SPAN * max(0.0, (log10(value) - log10(smallest / 2)) / decades)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="title" x="8" y="24">{escape(title)}</text>',
    ]
    for place, bar in enumerate(bars):
        lines += _drawn(bar, TOP + place * (BAR + GAP), x, digits)
    return "\n".join([*lines, "</svg>", ""])


def _drawn(bar: Bar, top: float, x: object, digits: int) -> list[str]:
    assert callable(x)
    end, middle = x(bar.figure.median), top + BAR / 2
    kind = "other" if bar.is_other else "bar"
    low, high = x(bar.figure.low), x(bar.figure.high)
    return [
        f'<text x="{LABEL - 10}" y="{middle + 5:.0f}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{kind}" x="{LABEL}" y="{top:.0f}" width="{end - LABEL:.1f}" height="{BAR}" rx="2"/>',
        f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>',
        f'<text x="{max(end, high) + 8:.1f}" y="{middle + 5:.0f}">{number(bar.figure.median, digits)}</text>',
    ]
