"""What MkDocs does beside the usual: pages from outside of ``docs/``, decisions, and checks of the built site."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import built
import repository

#: Stands in the navigation for the pages of this folder.
DECISIONS = "decisions/"


def on_config(config: MkDocsConfig) -> None:
    """Give each decision its place in the navigation, by its number."""
    decisions = Path(config.docs_dir) / "decisions"
    config.nav = _expanded(
        config.nav, [f"decisions/{path.name}" for path in sorted(decisions.glob("*.md"), key=_number)]
    )
    config.watch += [str(repository.ROOT / name) for name in ("signalbus_core", "mkdocs.yml", *repository.TOP)]


def _number(decision: Path) -> str:
    return "" if decision.stem == "README" else decision.stem


def _expanded(nav: Any, decisions: list[str]) -> Any:
    if isinstance(nav, list):
        return [_expanded(entry, decisions) for entry in nav]
    if isinstance(nav, dict):
        return {title: _expanded(entry, decisions) for title, entry in nav.items()}
    return decisions if nav == DECISIONS else nav


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the README, the changelog and others, and the files of the repository that pages link to."""
    pages = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for outside in repository.pages_outside(pages):
        is_in_nav = outside.page in repository.OF_TOP
        inclusion = InclusionLevel.INCLUDED if is_in_nav else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, outside.page, content=outside.text, inclusion=inclusion))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Have links lead to the pages of the site."""
    return repository.with_links_of_the_site(page.file.src_uri, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Fail when the site would load something from elsewhere, or leaves out a public name."""
    site = Path(config.site_dir)
    if problems := [*built.loaded_from_elsewhere(site), *built.missing_names(site)]:
        raise PluginError("\n".join(problems))
