"""A private Prometheus."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from typing import Any

from .private_process import PrivateProcess, required
from .programs import free_port

PLACES = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")


class PrivatePrometheus(PrivateProcess):
    """A Prometheus that scrapes relays every second.

    :param ports: where the relays listen, on the loopback address.
    :param rules: the text of a file of rules; evaluated every second too.
    """

    name = "Prometheus"
    starting_seconds = 60.0

    def __init__(self, ports: Iterable[int], rules: str = "groups: []\n", job: str = "shop") -> None:
        self._program = required("prometheus", self.name, *PLACES)
        super().__init__()
        self._port = free_port()
        (self.directory / "test.rules.yml").write_text(rules)
        # JSON is YAML too.
        (self.directory / "prometheus.yml").write_text(json.dumps(_settings(ports, job)))

    def __enter__(self) -> PrivatePrometheus:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def _command(self) -> Sequence[object]:
        return [
            self._program,
            f"--config.file={self.directory}/prometheus.yml",
            f"--storage.tsdb.path={self.directory}/data",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]

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
