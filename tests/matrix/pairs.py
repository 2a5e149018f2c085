"""One pair of servers: what is run against it, and what came of that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.support.postgres import PrivatePostgres
from tests.support.processes import COMMAND
from tests.support.programs import TREE_VARIABLE
from tests.support.rabbitmq import PrivateRabbitMQ
from tests.support.servers import AMQP_VARIABLE, DATABASE_VARIABLE

from .trees import tree

#: What speaks with servers.
SUITE = ("tests/integration", "tests/contract")

#: Debian's releases, and what they have: RabbitMQ 3.10 and PostgreSQL 15, 4.0 and 17, 4.3 and 18. None: this machine.
RELEASES = (None, "trixie", "forky")


@dataclass(frozen=True)
class Outcome:
    """What came of one pair."""

    rabbitmq: str
    postgresql: str
    passed: int
    failed: int
    skipped: int
    committed: int
    lost: int
    phantom: int

    @property
    def is_good(self) -> bool:
        return self.passed > 0 and self.committed > 0 and not (self.failed or self.lost or self.phantom)


def run(release: str | None, *, jobs: int, drill_seconds: float, arguments: list[str]) -> Outcome:
    """Run the tests, then the drill, against the servers of a release."""
    if release is not None:
        os.environ[TREE_VARIABLE] = str(tree(release))
    try:
        return _run(jobs, drill_seconds, arguments)
    finally:
        os.environ.pop(TREE_VARIABLE, None)


def _run(jobs: int, drill_seconds: float, arguments: list[str]) -> Outcome:
    with PrivatePostgres() as postgres, PrivateRabbitMQ() as rabbitmq:
        postgres.start()
        rabbitmq.start()
        version = postgres.execute("SHOW server_version")[0][0].split()[0]
        broker = rabbitmq.eval("rabbit_misc:version().").strip('"')
        passed, failed, skipped = _suite(jobs, arguments)
        drill = _drill(postgres.create_database(), rabbitmq.url, drill_seconds)
    return Outcome(broker, version, passed, failed, skipped, drill["committed"], drill["lost"], drill["phantom"])


def _suite(jobs: int, arguments: list[str]) -> tuple[int, int, int]:
    """How many tests passed, failed and were skipped. They start servers of their own."""
    environ = {name: value for name, value in os.environ.items() if name not in (AMQP_VARIABLE, DATABASE_VARIABLE)}
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--quiet", f"--numprocesses={jobs}", "--dist=loadfile"]
        subprocess.run([*command, f"--junitxml={report}", *SUITE, *arguments], env=environ, check=False)
        suite = next(iter(ElementTree.parse(report).getroot()))
    tests, failures, errors, skipped = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    return tests - failures - errors - skipped, failures + errors, skipped


def _drill(database_url: str, amqp_url: str, seconds: float) -> dict[str, int]:
    urls = {"DATABASE_URL": database_url, "AMQP_URL": amqp_url}
    command = [str(COMMAND), "drill", "--json", "--queue-type", "quorum", "--seconds", f"{seconds:g}"]
    done = subprocess.run(command, env=os.environ | urls, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout)
