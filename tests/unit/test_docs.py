"""The documentation says what the code does."""

from __future__ import annotations

import builtins
import re
from pathlib import Path

import pytest

import signalbus_core
from relay import exits
from signalbus_core import rabbitmq, testing
from tests.support.reference import REFERENCE, TABLES, updated

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
SOURCES = [*(ROOT / "signalbus_core").rglob("*.py"), *(ROOT / "relay").rglob("*.py")]


def test_the_tables_of_the_reference_are_those_of_the_code() -> None:
    text = "".join(page.read_text() for page in REFERENCE.glob("*.md"))
    assert text == updated(text), "run: python -m tests.support.reference"
    assert all(f"<!-- {name} -->" in text for name in TABLES)


def test_every_log_action_of_the_relay_is_in_the_reference_and_the_other_way_round() -> None:
    in_code = set()
    for source in SOURCES:
        text = source.read_text()
        in_code |= set(re.findall(r'"action": "(\w+)"', text))
        in_code |= set(re.findall(r'(?:trouble|fine)\([^"]*?"(\w+)"', text))
        in_code |= set(re.findall(r'_note\(publisher, "\w+", "(\w+)"', text))
    table = (REFERENCE / "log-actions.md").read_text()
    documented = {
        name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)
    }
    of_commands = {"flush_failed", "flush_round", "flush_round_failed", "unknown_signal_model"}
    assert documented - {"host", "port"} == in_code - of_commands


def test_every_exit_code_is_in_the_reference() -> None:
    codes = {value for name, value in vars(exits).items() if name.startswith("EXIT_")}
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
    assert {page.name for page in REFERENCE.glob("*.md")} - {"README.md"} == set(re.findall(r"\]\((.+?)\)", contents))


@pytest.mark.parametrize("package", [signalbus_core, rabbitmq, testing])
def test_every_public_name_exists_and_is_documented(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name).__doc__, name


def test_no_error_is_named_like_a_builtin_and_all_have_one_root() -> None:
    errors = [
        value
        for package in (signalbus_core, rabbitmq, testing)
        for value in vars(package).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    ]
    assert errors
    for error in errors:
        assert issubclass(error, signalbus_core.SignalBusError)
        assert not hasattr(builtins, error.__name__)
