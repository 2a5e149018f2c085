"""The packages are typed, and typical code of a user passes the strictest check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def mypy(path: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    # Of pika, which does not declare its types, a user's own configuration says the same.
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n[mypy-pika.*]\nignore_missing_imports = True\n")
    command = [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", tmp_path / "cache", path]
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1], check=False)


def test_typical_code_of_a_user_passes_mypy_strict(tmp_path: Path) -> None:
    done = mypy(HERE / "shop.py", tmp_path)
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
def test_wrong_code_does_not(tmp_path: Path, right: str, wrong: str) -> None:
    source = (HERE / "shop.py").read_text()
    assert right in source
    (tmp_path / "shop.py").write_text(source.replace(right, wrong))
    assert mypy(tmp_path / "shop.py", tmp_path).returncode == 1
