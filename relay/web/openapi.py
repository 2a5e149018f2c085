"""The OpenAPI document: `openapi.json`, with the version of the relay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from .. import __version__
from .app import Handler
from .http import json_answer


def openapi_routes() -> dict[str, Mapping[str, Handler]]:
    """The handler of the document's path."""
    return {"/api/openapi.json": {"GET": lambda _request: json_answer(document())}}


@cache
def document() -> dict[str, Any]:
    """The document."""
    content: dict[str, Any] = json.loads((files(__package__) / "openapi.json").read_text(encoding="utf-8"))
    content["info"]["version"] = __version__
    return content
