"""A private Prometheus: own directory, own port, loopback only, gone when its owner is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .guardian import guardian
from .programs import ServersMissingError, find_program, free_port
from .waiting import eventually


class PrivatePrometheus:
    """A Prometheus that scrapes relays every second.

    :param ports: where the relays listen, on the loopback address.
    :param rules: the text of a file of rules; evaluated every second too.
    """

    def __init__(self, ports: Iterable[int], rules: str = "groups: []\n", job: str = "shop") -> None:
        program = find_program("prometheus", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")
        if program is None:
            raise ServersMissingError("Prometheus is not installed. Run `make setup`, which installs it where it can.")
        self._program = program
        self._directory = Path(tempfile.mkdtemp(prefix=f"signalbus-{os.getpid()}-prometheus-", dir="/tmp"))
        guardian.watch("directory", str(self._directory))
        self._port = free_port()
        (self._directory / "test.rules.yml").write_text(rules)
        # JSON is YAML too.
        (self._directory / "prometheus.yml").write_text(json.dumps(_settings(ports, job)))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivatePrometheus:
        with (self._directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self._directory}/prometheus.yml",
                    f"--storage.tsdb.path={self._directory}/data",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._directory,
                start_new_session=True,
            )
        guardian.watch("group", self._process.pid)
        eventually(self._answers, 60, "Prometheus answers", every_seconds=0.1)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        guardian.release("group", self._process.pid)
        shutil.rmtree(self._directory, ignore_errors=True)
        guardian.release("directory", str(self._directory))

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now, each with ``metric`` and ``value``.

        :raises AssertionError: Prometheus refuses the expression.
        """
        result: list[dict[str, Any]] = self._get("query?" + urllib.parse.urlencode({"query": expression}))["result"]
        return result

    def alerts(self) -> dict[str, str]:
        """The alerts that are pending or firing, with their state."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self._get("alerts")["alerts"]}

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=20) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path}: {error.read().decode()}") from None

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"Prometheus ended:\n{(self._directory / 'output').read_text(errors='replace')}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=20):
                return True
        except OSError:
            # Nobody listens yet, or it is still starting and answers 503.
            return False


def _settings(ports: Iterable[int], job: str) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["test.rules.yml"],
        "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}],
    }
