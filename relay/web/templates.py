"""Turns objects into HTML. Whatever is put into a page is escaped, and nothing in it comes from elsewhere.

The browser is told which style and which script belong to a page, by their hashes; it runs and applies no other.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ..output import duration_text
from .charts import area, chart_text, figure, line
from .http import HTML, Answer

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
    # With no referrer at all, browsers hide the origin of a form too, and it would look like one of another site.
    "Referrer-Policy": "same-origin",
}


def clock(moment: str) -> str:
    """A moment for people: its time, and its day unless that is today's."""
    when = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    is_today = when.date() == datetime.now(timezone.utc).date()
    return when.strftime("%H:%M:%S UTC" if is_today else "%-d %b, %H:%M UTC")


def query(model: str, key: str | None = None) -> str:
    """The query of a link that is about a model, or a signal."""
    return urlencode({"model": model} if key is None else {"model": model, "key": key})


def doing(worker: dict[str, Any]) -> str:
    """What a worker does, in words."""
    text = str(worker["doing"])
    if worker["signals"] is not None:
        return f"{text} {worker['signals']:,} of {worker['model']}"
    return text if worker["model"] is None else f"{text} {worker['model']}"


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(lambda name: _read(f"templates/{name}")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": clock,
        "duration": duration_text,
        "figure": figure,
        "area": area,
        "line": line,
        "chart_text": chart_text,
        "doing": doing,
    }
    # The only texts that are not escaped: they are ours.
    environment.globals |= {"css": Markup(_CSS), "js": Markup(_JS), "query": query}
    return environment


_ENVIRONMENT = _environment()


def page(template: str, status: HTTPStatus = HTTPStatus.OK, /, **values: object) -> Answer:
    """A page of this template."""
    text = _ENVIRONMENT.get_template(template).render(**values)
    return Answer(text.encode(), HTML, status, HEADERS)
