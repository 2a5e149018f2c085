"""One relay under faults: what it says of its health, what it holds open, what it has logged."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import RelayProcess

WORKERS = 2

#: Connections of one relay to the database: one for each worker, one for the probe, two that the doorkeeper holds,
#: one by which it asks now and then, and one by which it knows the other relays.
MOST_DATABASE_CONNECTIONS = WORKERS + 5

CLOSE_WAIT = "08"

OPTIONS = {
    "--app": "application:create_app",
    "--workers": str(WORKERS),
    "--poll-interval": "0.1",
    # The least that order by key allows with the heartbeat of 2 seconds in the URL.
    "--idle-timeout": "8",
    "--statement-timeout": "3",
    "--lock-timeout": "0.5",
    "--drain-timeout": "8",
}


@dataclass(frozen=True)
class Level:
    """What a relay holds: threads, and descriptors without those of its database connections."""

    threads: int
    descriptors: int
    database_connections: int

    def problems(self, before: Level) -> list[str]:
        found = []
        if self.threads > before.threads:
            found.append(f"{self.threads} threads, {before.threads} before")
        # A connection in the pool that was reset is no TCP connection any more, and still a descriptor.
        most = before.descriptors + MOST_DATABASE_CONNECTIONS
        if self.descriptors + self.database_connections > most:
            found.append(f"{self.descriptors} open descriptors, {before.descriptors} before")
        if self.database_connections > MOST_DATABASE_CONNECTIONS:
            found.append(f"{self.database_connections} database connections")
        return found


class Relay:
    """A relay process, started with the command that users start.

    :param name: its application name in the database.
    :param database_ports: where it finds the database.
    :param broker_ports: where it finds the broker.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        environ: Mapping[str, str],
        database_ports: Collection[int],
        broker_ports: Collection[int],
    ) -> None:
        self.name = name
        self._database_ports = database_ports
        self._broker_ports = broker_ports
        arguments = [part for option in OPTIONS.items() for part in option]
        self._process = RelayProcess(directory, *arguments, environ={**environ, "PGAPPNAME": name})
        self._port: int | None = None
        self._read = 0
        #: What it held when it was warm, before any fault.
        self.level: Level | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    def says(self) -> str:
        """What ``/readyz`` says, in two words; ``silent`` when it does not answer."""
        if self._port is None:
            listening = self._process.logs("http_listening")
            if not listening:
                return "silent"
            self._port = int(listening[0]["port"])
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=0.5)
        try:
            connection.request("GET", "/readyz")
            answer = json.loads(connection.getresponse().read())
        except OSError:
            return "silent"
        finally:
            connection.close()
        for thing in ("database", "broker"):
            if answer[thing]["condition"] in ("down", "blocked"):
                return f"{thing} {answer[thing]['condition']}"
        if answer["stuck_models"]:
            return f"{', '.join(answer['stuck_models'])} stuck"
        return "ready" if answer["ready"] else "; ".join(answer["reasons"])

    def broker_sockets(self) -> list[str]:
        """The states of its connections to the broker."""
        return [state for port, state in self._sockets() if port in self._broker_ports]

    def database_sockets(self) -> list[str]:
        return [state for port, state in self._sockets() if port in self._database_ports]

    def measure(self) -> Level:
        database = len(self.database_sockets())
        return Level(
            threads=len(os.listdir(f"/proc/{self.pid}/task")),
            descriptors=len(os.listdir(f"/proc/{self.pid}/fd")) - database,
            database_connections=database,
        )

    def _sockets(self) -> list[tuple[int, str]]:
        """The remote port and the state of each TCP connection."""
        inodes = set()
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(entry))
            except FileNotFoundError:
                continue
        found = []
        for line in Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in inodes:
                found.append((int(fields[2].rpartition(":")[2], 16), fields[3]))
        return found

    def new_output(self) -> str:
        """What it has written since this was last asked."""
        output = self._process.output
        new, self._read = output[self._read :], len(output)
        return new

    def logged(self, action: str) -> list[dict[str, Any]]:
        """Its log lines with this action that :meth:`new_output` has not given yet."""
        lines = [json.loads(line) for line in self._process.output[self._read :].splitlines() if line.endswith("}")]
        return [line for line in lines if line.get("action") == action]

    def pause(self) -> None:
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        if self.is_running:
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, timeout_seconds: float = 30) -> int:
        return self._process.wait(timeout_seconds)

    def close(self) -> None:
        self._process.__exit__()
