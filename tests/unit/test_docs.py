"""The documentation says what the code does."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import signalbus_core
from relay import exit_codes
from relay.cli import cli
from relay.config.options import OPTIONS
from relay.config.resolve import ABOUT_TABLES
from relay.web.api_routes import api_routes
from relay.web.app import create_app
from relay.web.failed_cache import LAST_PAGE
from relay.web.health_routes import health_routes
from relay.web.openapi import document
from relay.web.page_routes import page_routes
from relay.web.validation import LAST_OFFSET, LONGEST, MOST_FAILED, MOST_LISTED
from signalbus_core import inbox, rabbitmq, testing
from tests.support.reference import REFERENCE, TABLES, updated

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
SOURCES = [*(ROOT / "signalbus_core").rglob("*.py"), *(ROOT / "relay").rglob("*.py")]


def test_the_tables_of_the_reference_are_those_of_the_code() -> None:
    text = "".join(page.read_text() for page in REFERENCE.glob("*.md"))
    assert text == updated(text), "run: python -m tests.support.reference"
    assert all(f"<!-- {name} -->" in text for name in TABLES)


def test_log_actions_of_relay_and_of_reference_are_the_same() -> None:
    in_code = set()
    for source in SOURCES:
        text = source.read_text()
        in_code |= set(re.findall(r'"action": "(\w+)"', text))
        in_code |= set(re.findall(r'(?:raised|resolved)\([^"]*?"(\w+)"', text))
        in_code |= set(re.findall(r'(?:begins|ends)="(\w+)"', text))
    table = (REFERENCE / "log-actions.md").read_text()
    documented = {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    of_commands = {"flush_failed", "flush_round", "flush_round_failed", "unknown_signal_model"}
    assert documented == in_code - of_commands


def test_openapi_has_the_paths_and_methods_that_relay_serves() -> None:
    unused: Any = None
    blueprints = [
        health_routes(unused, unused, unused),
        api_routes(unused, unused),
        page_routes(unused, unused, unused, unused),
    ]
    rules = create_app(blueprints, unused).url_map.iter_rules()
    served = {(rule.rule, method) for rule in rules for method in (rule.methods or set()) - {"HEAD"}}
    documented = {(path, method.upper()) for path, methods in document()["paths"].items() for method in methods}
    assert documented == served


def test_the_openapi_document_has_the_limits_of_the_code() -> None:
    schemas = document()["components"]["schemas"]
    names = {
        "model": "ModelName",
        "key": "SignalKey",
        "group": "GroupName",
        "reason": "Reason",
        "token": "OperatorToken",
    }
    paths = document()["paths"]
    [section] = paths["/runbook"]["get"]["parameters"]
    longest = {"number": len(str(MOST_FAILED)), "section": section["schema"]["maxLength"]}
    assert {field: schemas[name]["maxLength"] for field, name in names.items()} | longest == LONGEST
    limits = {
        one["name"]: one["schema"]["maximum"]
        for path in ("/", "/api/parked")
        for one in paths[path]["get"]["parameters"]
        if "maximum" in one.get("schema", {})
    }
    assert limits == {"page": LAST_PAGE, "limit": MOST_LISTED, "offset": LAST_OFFSET}


def test_every_exit_code_is_in_the_reference() -> None:
    codes = {value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")}
    documented = {
        int(number) for number in re.findall(r"^\| (\d) \|", (REFERENCE / "exit-codes.md").read_text(), re.MULTILINE)
    }
    assert documented == codes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_page_of_the_reference_is_in_its_table_of_contents() -> None:
    contents = (REFERENCE / "README.md").read_text()
    pages = {page.relative_to(REFERENCE).as_posix() for page in REFERENCE.rglob("*.md")}
    assert pages - {"README.md"} == set(re.findall(r"\]\((.+?)\)", contents))


@pytest.mark.parametrize("package", [signalbus_core, inbox, rabbitmq, testing])
def test_every_public_name_exists_and_is_documented(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name).__doc__, name


def test_no_error_is_named_like_a_builtin_and_all_have_one_root() -> None:
    errors = [
        value
        for package in (signalbus_core, inbox, rabbitmq, testing)
        for value in vars(package).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    ]
    assert errors
    for error in errors:
        assert issubclass(error, signalbus_core.SignalBusError)
        assert not hasattr(builtins, error.__name__)


def leaves(group: click.Group, name: str = "signalbus-relay") -> Iterator[tuple[str, click.Command]]:
    """The commands that do something, by what is typed."""
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def sections(page: str) -> dict[str, str]:
    """The sections of a page of the reference by command: a heading may name several."""
    found = re.findall(
        r"^## (signalbus-relay .+?)\n(.*?)(?=^## |\Z)", (REFERENCE / page).read_text(), re.MULTILINE | re.DOTALL
    )
    by_command = {}
    for title, text in found:
        first, *others = title.removeprefix("signalbus-relay ").split(", ")
        by_command |= {f"signalbus-relay {command}": text for command in (first, *others)}
    return by_command


def section_of(command: str, page: str) -> str:
    found = sections(page)
    return found.get(command) or found[command.rsplit(" ", 1)[0]]


#: What commands share is told once: which application is meant, or which tables.
SHARED = {f"--{option.name}" for option in OPTIONS if option.field in ("app", "imports", *ABOUT_TABLES)}


@pytest.mark.parametrize(("name", "command"), sorted(leaves(cli)), ids=lambda value: str(value))
def test_every_command_and_its_options_are_in_the_reference(name: str, command: click.Command) -> None:
    is_run = name == "signalbus-relay run"
    text = (REFERENCE / "options.md").read_text() if is_run else section_of(name, "commands.md")
    of_run = {f"--{option.name}" for option in OPTIONS}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not SHARED & set(parameter.opts):
            [long] = [option for option in parameter.opts if option.startswith("--")]
            is_told = re.search(rf"`[^`\n]*{long}\b", text) or (long in of_run and "options of `run`" in text)
            assert is_told, long


def test_every_command_of_the_reference_exists() -> None:
    words = {word for name, _ in leaves(cli) for word in (name, name.rsplit(" ", 1)[0])}
    assert set(sections("commands.md")) | set(sections("exit-codes.md")) <= words


def test_every_command_has_its_exit_codes() -> None:
    for name, _ in leaves(cli):
        if not name.startswith("signalbus-relay ddl"):
            assert section_of(name, "exit-codes.md")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_sections_lead_to_them(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(((?!http)[^)#]*)#([^)]+)\)", page.read_text()):
        assert anchor in anchors(page.parent / target if target else page), f"{target}#{anchor}"
