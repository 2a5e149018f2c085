"""Which page of the site shows which file of the repository.

Pages link to files outside of ``docs/`` as a code host wants it (``../deploy/README.md``). On the site, the files and
folders that are linked are pages of their own, so that these links work there too.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Pages that lie at the top of the repository. By the name ``README.md`` one would be the index of the site.
TOP = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
OF_TOP = {page: path for path, page in TOP.items()}

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2", re.MULTILINE | re.DOTALL)

#: How the page of a file is highlighted.
LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".js": "javascript", ".sql": "sql"}


def path_of(page: str) -> str:
    """The file that a page shows, from the top of the repository."""
    if page in OF_TOP:
        return OF_TOP[page]
    if page.startswith("source/"):
        return page.removeprefix("source/").removesuffix(".md")
    return f"docs/{page}"


def page_of(path: str) -> str:
    """The page, picture or other file of the site that shows a file or folder of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return TOP.get(path, f"source/{path}.md")


def text_of(page: str) -> str:
    """The Markdown of a page that lies outside of ``docs/``."""
    file = ROOT / path_of(page)
    if page in OF_TOP:
        return file.read_text()
    return "---\nsearch: {exclude: true}\n---\n" + _shown(file)


def linked(page: str, markdown: str) -> Iterator[str]:
    """The pages that a page links to."""
    for found in LINK.finditer(FENCE.sub("", markdown)):
        yield _target(page, found[1])


def with_links_of_the_site(page: str, markdown: str) -> str:
    """A page whose relative links lead to pages of the site."""

    def replaced(found: re.Match[str]) -> str:
        target = posixpath.relpath(_target(page, found[1]), posixpath.dirname(page) or ".")
        return target + (found[2] or "")

    parts: list[str] = []
    end = 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(replaced, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join(parts) + LINK.sub(replaced, markdown[end:])


def _target(page: str, link: str) -> str:
    shown = path_of(page)
    folder = _described(ROOT / shown).parent.relative_to(ROOT).as_posix()
    return page_of(posixpath.normpath(posixpath.join(folder, link)))


def _described(path: Path) -> Path:
    """The file whose text the page of a path shows: of a folder, its README."""
    return path / "README.md" if path.is_dir() else path


def _shown(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    readme = _described(path)
    if readme.suffix == ".md" and readme.exists():
        return readme.read_text()
    if path.is_dir():
        return f"# {name}/\n\n" + "\n".join(f"- {line}" for line in _listing(path)) + "\n"
    language = LANGUAGES.get(path.suffix, "text")
    return f"# {path.name}\n\n`{name}`\n\n````{language}\n{path.read_text()}\n````\n"


def _listing(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__pycache__")):
            continue
        about = (ast.get_docstring(ast.parse(path.read_text())) or "") if path.suffix == ".py" else ""
        yield f"`{path.name}{'/' if path.is_dir() else ''}`" + (f": {about.splitlines()[0]}" if about else "")


@dataclass(frozen=True)
class Outside:
    """A page of the site that lies outside of ``docs/``."""

    page: str
    text: str


def pages_outside(pages: dict[str, str]) -> list[Outside]:
    """The pages at the top of the repository, and those that pages link to, directly or by one another."""
    found: dict[str, str] = {}
    wanted = [*OF_TOP, *(target for page, text in pages.items() for target in linked(page, text))]
    while wanted:
        page = wanted.pop()
        is_outside = page in OF_TOP or page.startswith("source/")
        if is_outside and page not in found and (ROOT / path_of(page)).exists():
            found[page] = text_of(page)
            wanted += linked(page, found[page])
    return [Outside(page, text) for page, text in sorted(found.items())]
