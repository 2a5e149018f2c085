"""The runbook, which the package brings along: its sections, for the page's links."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

#: In the source tree the runbook lies among the documents; the build puts it here.
_IN_PACKAGE = files(__package__) / "runbook.md"
_IN_SOURCES = Path(__file__).parents[2] / "docs" / "runbook.md"


def runbook_text(section: str | None = None) -> str | None:
    """The text of a section, by its title, or of all; None when there is no such section."""
    sections = _sections()
    return "".join(sections.values()) if section is None else sections.get(section)


@cache
def _sections() -> dict[str, str]:
    text = (_IN_PACKAGE if _IN_PACKAGE.is_file() else _IN_SOURCES).read_text(encoding="utf-8")
    parts = re.split(r"^(#{1,2} .+)$", text, flags=re.MULTILINE)
    return {title.lstrip("# "): f"{title}{body}" for title, body in zip(parts[1::2], parts[2::2], strict=True)}
