"""The contributor's page is about the code as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
TOP_LEVEL = r"signalbus_core|relay|tests|docs|deploy|\.ci"


def test_the_map_is_what_the_code_gives() -> None:
    command = [sys.executable, ".ci/map.py", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path", sorted(set(re.findall(rf"`((?:{TOP_LEVEL})/[^`\s]*)`", PAGE))))
def test_each_path_of_the_contributors_page_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_steps_of_a_signals_way_are_numbered_in_order() -> None:
    way = PAGE.split("## A signal's way")[1].split("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", way, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10
