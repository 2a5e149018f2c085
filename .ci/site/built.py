"""Looks into the built site: what a browser would load from elsewhere, and which public names it leaves out."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

#: The modules whose names are public, each with its page.
MODULES = {
    "signalbus_core": "signalbus_core",
    "signalbus_core.rabbitmq": "rabbitmq",
    "signalbus_core.inbox": "inbox",
    "signalbus_core.testing": "testing",
}

#: What a browser loads by itself, by element. A link that a reader follows is none of it.
LOADED = {
    "audio": ("src",), "embed": ("src",), "iframe": ("src",), "img": ("src", "srcset"), "link": ("href",),
    "object": ("data",), "script": ("src",), "source": ("src", "srcset"), "video": ("src", "poster"),
}  # fmt: skip
ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
IN_STYLES = re.compile(r"""(?:url\(|@import)\s*['"]?\s*((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)


class _Loads(HTMLParser):
    """The addresses elsewhere that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") in ("canonical", "prev", "next"):
            return
        self.found += [value for name in LOADED.get(tag, ()) if ELSEWHERE.match(value := values.get(name) or "")]
        self.found += IN_STYLES.findall(values.get("style") or "")

    def handle_data(self, data: str) -> None:
        self.found += IN_STYLES.findall(data) if self.cdata_elem == "style" else []


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """Each address outside of the site that a page, a style sheet or a picture of it loads."""
    for path in sorted(site.rglob("*")):
        found: list[str] = []
        if path.suffix in (".html", ".svg"):
            parser = _Loads()
            parser.feed(path.read_text())
            found = parser.found
        elif path.suffix == ".css":
            found = IN_STYLES.findall(path.read_text())
        yield from (f"{path.relative_to(site)} loads {address}: have it in docs/assets" for address in found)


def missing_names(site: Path) -> Iterator[str]:
    """Each public name that has no docstring, or no place in its page of the reference."""
    for module, page in MODULES.items():
        exported = importlib.import_module(module)
        shown = (site / "reference" / "api" / f"{page}.html").read_text()
        for name in exported.__all__:
            value = getattr(exported, name)
            ids = {f"{module}.{name}", f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"}
            if not any(f'id="{one}"' in shown for one in ids):
                yield f"{module}.{name} is public, and is missing in docs/reference/api/{page}.md"
            yield from (f"{module}.{one} is public, and has no docstring" for one in undocumented(name, value))


def undocumented(name: str, value: object) -> Iterator[str]:
    """A public name, and those of its methods and properties, without a docstring."""
    if not isinstance(value, str | int | float) and not inspect.getdoc(value):
        yield name
    if inspect.isclass(value):
        for member, defined in vars(value).items():
            is_code = inspect.isfunction(defined) or isinstance(defined, classmethod | staticmethod | property)
            if is_code and not member.startswith("_") and not inspect.getdoc(getattr(value, member)):
                yield f"{name}.{member}"
