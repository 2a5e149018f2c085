"""The packages are typed, and typical code of a user passes the strictest check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.reader import snippets

HERE = Path(__file__).parent

WRONG = [
    ('number: int = place_order("tea", quantity=2)', 'number: int = place_order(5, quantity="2")'),
    ("return bus.flushmany(", "return bus.flush_many("),
    ("timeout_seconds=1.5", 'timeout_seconds="soon"'),
    ("[row.routing_key for", "[row.routingkey for"),
]


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says, by the name of the file. All are checked together: most of the time goes to the libraries."""
    directory = tmp_path_factory.mktemp("mypy")
    source = (HERE / "shop.py").read_text()
    page = (HERE.parents[1] / "docs" / "how-to" / "cookbook.md").read_text()
    [recipe] = snippets(page.partition("## Typed models")[2], "python")
    (directory / "recipe.py").write_text(recipe)
    for number, (right, wrong) in enumerate(WRONG):
        assert right in source
        (directory / f"wrong_{number}.py").write_text(source.replace(right, wrong))
    # Of pika, which does not declare its types, a user's own configuration says the same.
    config = directory / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n[mypy-pika.*]\nignore_missing_imports = True\n")
    files = [HERE / "shop.py", *sorted(directory.glob("*.py"))]
    command = [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", directory, *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1], check=False)
    *lines, summary = done.stdout.splitlines()
    assert f"(checked {len(files)} source files)" in summary, done.stdout + done.stderr
    said: dict[str, list[str]] = {}
    for line in lines:
        if ": error:" in line:
            said.setdefault(Path(line.partition(":")[0]).name, []).append(line)
    return said


def test_typical_code_of_a_user_passes_mypy_strict(errors: dict[str, list[str]]) -> None:
    assert errors.get("shop.py", []) == []
    # Nothing that it imports is complained about either.
    assert set(errors) <= {"recipe.py", *(f"wrong_{number}.py" for number in range(len(WRONG)))}


def test_the_typed_recipe_of_the_cookbook_passes_too(errors: dict[str, list[str]]) -> None:
    assert errors.get("recipe.py", []) == []


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_code_does_not(errors: dict[str, list[str]], number: int) -> None:
    assert errors[f"wrong_{number}.py"]
