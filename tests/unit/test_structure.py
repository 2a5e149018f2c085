"""What the linters cannot see of the structure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import signalbus_core
from signalbus_core import inbox, lowlevel, rabbitmq
from tests.support.distribution import APART, SLOWEST, TOGETHER
from tests.support.servers import acquire_rabbitmq

ROOT = Path(__file__).parents[2]
PUBLIC = {
    "signalbus_core": set(signalbus_core.__all__),
    "signalbus_core.inbox": set(inbox.__all__),
    "signalbus_core.lowlevel": set(lowlevel.__all__),
    "signalbus_core.rabbitmq": set(rabbitmq.__all__),
}


def imports_of(source: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("signalbus_core"):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("signalbus_core") for alias in node.names), source


SOURCES = sorted((ROOT / "relay").rglob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_relay_uses_only_public_names_of_the_library(source: Path) -> None:
    for module, name in imports_of(source):
        assert name in PUBLIC.get(module, set()), f"{module}.{name}"


def test_importing_the_library_starts_no_thread_and_imports_no_metrics_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys, threading, signalbus_core, signalbus_core.rabbitmq;"
        "assert threading.active_count() == 1;"
        "assert not {'relay', 'prometheus_client', 'waitress'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_is_said_of_slow_tests_is_about_files_that_exist() -> None:
    assert [path for path in (*TOGETHER, *APART, *SLOWEST) if not (ROOT / path).exists()] == []


def test_a_server_refuses_to_start_for_a_test_without_its_mark(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("servers") is None
    with pytest.raises(AssertionError, match=f"{request.node.name} starts RabbitMQ"), acquire_rabbitmq():
        pass


def test_each_kind_of_advisory_lock_has_its_own_number() -> None:
    found = [
        (node.value.value, f"{source.name}: {target.id}")
        for source in sorted((ROOT / "signalbus_core").rglob("*.py")) + SOURCES
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.endswith("_LOCK")
    ]
    assert len(found) >= 6
    assert len({number for number, _ in found}) == len(found), found
