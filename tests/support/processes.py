"""The real ``signalbus-relay`` command in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import prefork
from .guardian import guardian
from .waiting import eventually

COMMAND = Path(sys.executable).with_name("signalbus-relay")


class RelayProcess:
    """A relay, started with JSON logs and a free HTTP port.

    :param directory: where its log goes, and where it runs.
    :param arguments: further arguments of ``signalbus-relay run``.
    """

    def __init__(self, directory: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        self._lines: list[dict[str, Any]] = []
        self._read_bytes = 0
        number = len(list(directory.glob("relay-*.log")))
        self._log_path = directory / f"relay-{number}.log"
        with self._log_path.open("wb") as log:
            command = [COMMAND, "run", "--http", "127.0.0.1:0", "--log-format", "json", *arguments]
            self._process = prefork.start(command, os.environ | dict(environ or {}), directory, log, log)
        guardian.watch("group", self._process.pid)

    def __enter__(self) -> RelayProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        guardian.release("group", self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log_path.read_text(errors="replace")

    def logs(self, action: str | None = None) -> list[dict[str, Any]]:
        """The log lines so far, or those with this action."""
        with self._log_path.open("rb") as log:
            log.seek(self._read_bytes)
            for line in log:
                # What is half written is read the next time.
                if line.endswith(b"\n"):
                    self._read_bytes += len(line)
                    if line.startswith(b"{") and line.endswith(b"}\n"):
                        self._lines.append(json.loads(line))
        return [line for line in self._lines if action is None or line.get("action") == action]

    def wait_for_log(self, action: str, timeout_seconds: float = 20) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            found = self.logs(action)
            if not found and not self.is_running:
                raise AssertionError(f"the relay ended with {self._process.returncode}:\n{self.output}")
            return found[0] if found else None

        line = eventually(find, timeout_seconds, f"log action {action}")
        assert line is not None
        return line

    @property
    def port(self) -> int:
        return int(self.wait_for_log("http_listening")["port"])

    def get(self, path: str) -> tuple[int, str]:
        """Ask its HTTP server; return status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def readiness(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.get("/readyz")[1])
        return answer

    def wait_ready(self, timeout_seconds: float = 20) -> None:
        eventually(lambda: self.get("/readyz")[0] == 200, timeout_seconds, "the relay is ready")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def wait(self, timeout_seconds: float = 30) -> int:
        return self._process.wait(timeout_seconds)
