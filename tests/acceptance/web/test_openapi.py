"""The relay answers as its OpenAPI document says, whatever it is asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.web.server import HttpServer
from tests.integration.worker.test_parked_signals import Outbox
from tests.support.fuzzing import FACTOR
from tests.support.operated_site import TOKEN, Operated

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[HttpServer]:
    outbox = Outbox(database_url)
    operated = Operated(outbox, tmp_path)
    operated.park(*range(1, 6))
    server = HttpServer(operated.site, "127.0.0.1", 0)
    server.start()
    yield server
    server.close()
    outbox.engine.dispose()


def test_every_answer_is_one_that_the_document_knows(server: HttpServer, tmp_path: Path) -> None:
    # In a process of its own: warnings of its libraries are none of ours.
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"http://127.0.0.1:{server.port}/api/openapi.json"),
            *("--max-examples", str(4 * FACTOR), "--seed", "7", "--generation-database", "none", "--no-color"),
            *("--header", f"Authorization: Bearer {TOKEN}", "--phases", "examples,coverage,fuzzing"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=480 * FACTOR,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
