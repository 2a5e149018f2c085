"""The OpenAPI document: the file ``openapi.json``, with the version of the relay."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from .. import __version__


@cache
def document() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((files(__package__) / "openapi.json").read_text(encoding="utf-8"))
    content["info"]["version"] = __version__
    return content
