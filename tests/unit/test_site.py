"""The documentation as a site: each page has its place, and what the build checks can fail."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


class Loader(yaml.SafeLoader):
    """Reads ``mkdocs.yml``, whose tags for Python make no difference here."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
SETTINGS = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)


def in_navigation(entry: Any) -> Iterator[str]:
    if isinstance(entry, dict):
        entry = list(entry.values())
    if isinstance(entry, list):
        for one in entry:
            yield from in_navigation(one)
    else:
        yield entry


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / ".ci" / "site"))
    yield
    for name in ("built", "repository"):
        sys.modules.pop(name, None)


def test_every_page_has_one_place_in_the_navigation() -> None:
    places = Counter(in_navigation(SETTINGS["nav"]))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    for page in sorted(pages):
        if not page.startswith("decisions/"):
            assert places[page], (
                f"docs/{page} is missing under `nav` in mkdocs.yml: add it where its readers look for it"
            )
    assert [page for page, count in places.items() if count > 1] == []


def test_every_page_says_in_its_first_paragraph_who_it_is_for() -> None:
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text()
        if path.parent.name != "decisions" or path.name == "README.md":
            first = re.search(r"^# .+\n\n((?:.+\n)+)", text, re.MULTILINE)
            assert first, path
            assert re.search(r"\b(For|you|your|You)\b", first[1]), f"{path.relative_to(ROOT)}: who is it for?"


@pytest.mark.usefixtures("site")
def test_a_link_leads_to_the_same_file_on_the_site() -> None:
    import repository

    links = "[a](../runbook.md#lost) [b](../../README.md#five) [c](../../deploy/README.md) [d](https://e.f/)\n```\n[g](h.md)\n```\n"
    assert repository.with_links_of_the_site("how-to/deploy.md", links) == (
        "[a](../runbook.md#lost) [b](../readme.md#five) [c](../source/deploy/README.md.md) [d](https://e.f/)\n```\n[g](h.md)\n```\n"
    )
    of_readme = "[a](docs/runbook.md) [b](CHANGELOG.md)"
    assert repository.with_links_of_the_site("readme.md", of_readme) == "[a](runbook.md) [b](changelog.md)"


@pytest.mark.usefixtures("site")
def test_files_outside_of_docs_that_pages_link_to_are_pages() -> None:
    import repository

    pages = repository.pages_outside({"how-to/deploy.md": "[a](../../deploy/kubernetes/base) [b](../../no-such-file)"})
    shown = {outside.page: outside.text for outside in pages}
    assert "source/deploy/kubernetes/base.md" in shown
    assert "source/no-such-file.md" not in shown
    assert set(repository.OF_TOP) < set(shown)


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/a.css">',
        '<img src="http://cdn.example/a.png">',
        '<p style="background: url(https://cdn.example/a.png)">',
        "<style>@import 'https://cdn.example/a.css'</style>",
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(tmp_path: Path, text: str) -> None:
    import built

    (tmp_path / "page.html").write_text(f'<a href="https://other.example/">a link is no load</a>{text}')
    [problem] = built.loaded_from_elsewhere(tmp_path)
    assert problem.startswith("page.html loads ")
    assert "cdn.example" in problem


@pytest.mark.usefixtures("site")
def test_what_a_style_sheet_would_load_from_elsewhere_is_found(tmp_path: Path) -> None:
    import built

    (tmp_path / "a.css").write_text("a { background: url(b.svg) } b { background: url('https://cdn.example/c.svg') }")
    assert list(built.loaded_from_elsewhere(tmp_path)) == [
        "a.css loads https://cdn.example/c.svg: have it in docs/assets"
    ]


@pytest.mark.usefixtures("site")
def test_a_public_method_without_docstring_is_found() -> None:
    import built

    class Documented:
        """It has one."""

        def has_none(self) -> None: ...

        def _private(self) -> None: ...

    assert list(built.undocumented("Documented", Documented)) == ["Documented.has_none"]


@pytest.mark.usefixtures("site")
def test_a_public_name_that_the_reference_leaves_out_is_found(tmp_path: Path) -> None:
    import built

    (tmp_path / "reference" / "api").mkdir(parents=True)
    for page in built.MODULES.values():
        (tmp_path / "reference" / "api" / f"{page}.html").write_text("")
    assert "signalbus_core.SignalBus is public, and is missing in docs/reference/api/signalbus_core.md" in set(
        built.missing_names(tmp_path)
    )
