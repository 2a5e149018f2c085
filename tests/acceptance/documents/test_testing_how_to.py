"""The how-to about testing, word by word: the shop of the README, its tests, and no RabbitMQ."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def snippets(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def run(directory: Path, environ: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_how_to_works_as_written(tmp_path: Path, database_url: str) -> None:
    conftest, tests, script = snippets("docs/how-to/test-your-application.md")
    for name, text in {
        "shop.py": snippets("README.md")[0],
        "conftest.py": conftest,
        "test_shop.py": tests,
        "script.py": script,
    }.items():
        (tmp_path / name).write_text(text)
    # The tests of an application need no broker, and must not touch the database that it works with.
    tests = {
        "TEST_DATABASE_URL": database_url,
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/no",
        "RABBITMQ_URL": "",
    }
    assert "3 passed" in run(tmp_path, tests, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    # Nobody listens there.
    shop = {"DATABASE_URL": database_url, "RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1/"}
    run(tmp_path, shop, "-c", "from shop import *\nwith create_app().app_context(): db.create_all()")
    assert run(tmp_path, shop, "script.py").strip() == """['{"order_id": 1}']"""
