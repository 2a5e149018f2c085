"""What the templates of the page use: filters, style, script, and the chart of the signals sent in each bucket."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape

from signalbus_core.lowlevel import one_line

from ..text import behind_text, duration_text

#: The height of a chart in SVG units; a bucket is one unit wide.
HEIGHT = 32.0

#: The space above the highest point, so that its line is not clipped.
MARGIN = 2.0


def line(chart: Mapping[str, Any]) -> str:
    """The path along the tops of the buckets."""
    points = _points(chart["counts"])
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def area(chart: Mapping[str, Any]) -> str:
    """The path around the area below the line."""
    points = _points(chart["counts"])
    return f"{line(chart)}V{HEIGHT:g}H{points[0][0]:g}Z"


def _points(counts: Sequence[int]) -> list[tuple[float, float]]:
    highest = max(counts, default=0) or 1
    room = HEIGHT - MARGIN - 0.5
    tops = [round(HEIGHT - 0.5 - room * count / highest, 1) for count in counts] or [HEIGHT]
    # The first and the last bucket reach the edges.
    return [(0.0, tops[0]), *((place + 0.5, top) for place, top in enumerate(tops)), (float(len(tops)), tops[-1])]


def chart_text(model: Mapping[str, Any]) -> str:
    """What the chart shows, in words."""
    chart = model["chart"]
    highest = max(chart["counts"], default=0) / chart["bucket_seconds"]
    if not highest:
        return "Nothing was sent in the last ten minutes."
    return f"Sent a second: now {figure(model['per_second'])}, at most {figure(highest)} in the last ten minutes."


def figure(number: float) -> str:
    """A rate, rounded to one decimal below 10, else to an integer."""
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


_FILES = files(__package__)


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_CSS, _JS = _read("page.css"), _read("page.js")

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hash(_CSS)}; script-src {_hash(_JS)}; img-src data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    # With ``no-referrer``, browsers hide the origin of a form too, and it would be refused as one of another site.
    "Referrer-Policy": "same-origin",
}


def clock(moment: str) -> str:
    """A time for people: with its date unless that is today."""
    when = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    is_today = when.date() == datetime.now(timezone.utc).date()
    return when.strftime("%H:%M:%S UTC" if is_today else "%-d %b, %H:%M UTC")


def query(**fields: object) -> str:
    """The query string of a link; fields without a value are left out."""
    return urlencode({name: value for name, value in fields.items() if value is not None})


#: How a state of a model is shown.
_LEVELS = {"paused": "paused", "blocked": "bad", "failing": "bad", "behind": "attention", None: "attention"}


def level(model: Mapping[str, Any]) -> str:
    """The colour and the icon of a model's state."""
    return _LEVELS.get(model["state"]) or ("attention" if model["waiting"] or model["parked"] else "good")


def number(count: int | None) -> str:
    """A count; a question mark where it could not be read."""
    return "?" if count is None else f"{count:,}"


def doing(worker: dict[str, Any]) -> str:
    """What a worker does, in words."""
    text = str(worker["doing"])
    if worker["signals"] is not None:
        return f"{text} {worker['signals']:,} of {worker['model']}"
    return text if worker["model"] is None else f"{text} {worker['model']}"


def shown(value: object) -> object:
    """What is shown of a value: texts in one line, in which nothing changes the direction of others."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def exact(value: str) -> Markup:
    """A text that is not shown but sent back, so that no character of it may change."""
    return Markup(escape(value))


FILTERS: dict[str, Any] = {
    "exact": exact,
    "clock": clock,
    "behind": behind_text,
    "duration": duration_text,
    "figure": figure,
    "area": area,
    "line": line,
    "chart_text": chart_text,
    "doing": doing,
    "level": level,
    "number": number,
}

#: The only texts that are not escaped are parts of this package.
GLOBALS: dict[str, Any] = {"css": Markup(_CSS), "js": Markup(_JS), "query": query}
