"""The packages are typed, and typical code of a user passes the strictest check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.reader import snippets

HERE = Path(__file__).parent


def mypy(path: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    # Of pika, which does not declare its types, a user's own configuration says the same.
    config = cache / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n[mypy-pika.*]\nignore_missing_imports = True\n")
    command = [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", cache, path]
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1], check=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is known of the libraries is the same for all of them."""
    return tmp_path_factory.mktemp("mypy")


def test_typical_code_of_a_user_passes_mypy_strict(cache: Path) -> None:
    done = mypy(HERE / "shop.py", cache)
    assert done.returncode == 0, done.stdout


def test_the_typed_recipe_of_the_cookbook_passes_too(tmp_path: Path, cache: Path) -> None:
    page = (HERE.parents[1] / "docs" / "how-to" / "cookbook.md").read_text()
    [recipe] = snippets(page.partition("## Typed models")[2], "python")
    (tmp_path / "recipe.py").write_text(recipe)
    done = mypy(tmp_path / "recipe.py", cache)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('number: int = place_order("tea", quantity=2)', 'number: int = place_order(5, quantity="2")'),
        ("return bus.flushmany(", "return bus.flush_many("),
        ("timeout_seconds=1.5", 'timeout_seconds="soon"'),
        ("[row.routing_key for", "[row.routingkey for"),
    ],
)
def test_wrong_code_does_not(tmp_path: Path, cache: Path, right: str, wrong: str) -> None:
    source = (HERE / "shop.py").read_text()
    assert right in source
    (tmp_path / "shop.py").write_text(source.replace(right, wrong))
    assert mypy(tmp_path / "shop.py", cache).returncode == 1
