"""The documentation as a site: each page has its place, and what the build checks can fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
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
    for name in ("built", "publish", "repository"):
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
    at_the_top = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
    for path in [*at_the_top, *sorted(DOCS.rglob("*.md"))]:
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


@pytest.mark.usefixtures("site")
def test_a_published_version_stands_beside_older_ones(tmp_path: Path) -> None:
    from publish import publish

    built = tmp_path / "built"
    built.mkdir()
    (built / "index.html").write_text("first")
    folder = tmp_path / "published"
    for version in ("0.9.0", "1.0.0rc1", "1.0.0", "0.10.0"):
        versions = publish(built, folder, version)
    assert versions == ["1.0.0", "1.0.0rc1", "0.10.0", "0.9.0"]
    assert [one["version"] for one in json.loads((folder / "versions.json").read_text())] == versions
    assert "url=1.0.0/index.html" in (folder / "index.html").read_text()
    (built / "index.html").write_text("second")
    assert publish(built, folder, "0.9.0") == versions
    assert (folder / "0.9.0" / "index.html").read_text() == "second"


@pytest.mark.parametrize(("link", "code"), [("other.md", 0), ("missing.md", 1), ("other.md#missing", 1)])
def test_make_docs_fails_on_a_dead_link(tmp_path: Path, link: str, code: int) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Index\n\n[a link]({link})\n")
    (docs / "other.md").write_text("# Other\n")
    kept = {name: SETTINGS[name] for name in ("strict", "validation", "use_directory_urls")}
    settings = {"site_name": "A site", "docs_dir": str(docs), "site_dir": str(tmp_path / "site"), "plugins": []}
    (tmp_path / "mkdocs.yml").write_text(json.dumps(kept | settings))
    [command] = re.findall(r"^\t@.*\$\(BIN\)/(mkdocs build.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    program, *arguments = command.split()
    done = subprocess.run(
        [Path(sys.executable).parent / program, *arguments, "--config-file", tmp_path / "mkdocs.yml"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == code, done.stderr
