"""A private PgBouncer in front of a private PostgreSQL: own directory, own port, loopback only, gone with its owner."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psycopg2

from .guardian import guardian
from .postgres import PrivatePostgres
from .programs import INSTALL_HINT, ServersMissingError, find_program, free_port, give_to, run_as
from .waiting import eventually

PLACES = ("/usr/sbin", "/usr/bin", "/opt/homebrew/opt/pgbouncer/bin", "/usr/local/opt/pgbouncer/bin")


class PrivatePgBouncer:
    """A PgBouncer in transaction mode: clients share a few server connections, each for a transaction at a time.

    :param pool_size: server connections for each database and user.
    :param users: who may come in, without a password.
    :param settings: further lines of its configuration file, as ``name = value``.
    """

    def __init__(
        self,
        postgres: PrivatePostgres,
        *,
        pool_size: int = 2,
        users: Sequence[str] = ("postgres",),
        settings: Sequence[str] = (),
    ) -> None:
        program = find_program("pgbouncer", *PLACES)
        if program is None:
            raise ServersMissingError(f"PgBouncer is not installed. {INSTALL_HINT}")
        self._program = program
        self._postgres = postgres
        self.port = free_port()
        # PgBouncer refuses to run as root.
        self.directory = Path(tempfile.mkdtemp(prefix=f"signalbus-{os.getpid()}-pgb-", dir="/tmp"))
        guardian.watch("directory", str(self.directory))
        self._process: subprocess.Popen[bytes] | None = None
        (self.directory / "userlist.txt").write_text("".join(f'"{user}" ""\n' for user in users))
        (self.directory / "pgbouncer.ini").write_text("\n".join([*self._configuration(pool_size), *settings, ""]))
        give_to("postgres", self.directory)

    def __enter__(self) -> PrivatePgBouncer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def in_front_of(self, url: str) -> str:
        """The URL that leads to the same database through this PgBouncer."""
        return url.replace(f":{self._postgres.port}/", f":{self.port}/")

    def start(self) -> PrivatePgBouncer:
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, self.directory / "pgbouncer.ini"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,
                **run_as("postgres"),
            )
        guardian.watch("group", self._process.pid)
        eventually(self._answers, 30, "PgBouncer answers", every_seconds=0.05)
        return self

    def stop(self) -> None:
        """Stop at once, with all connections."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        guardian.release("directory", str(self.directory))

    @property
    def log(self) -> str:
        return (self.directory / "output").read_text(errors="replace")

    def _configuration(self, pool_size: int) -> list[str]:
        return [
            "[databases]",
            f"* = host=127.0.0.1 port={self._postgres.port}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = trust",
            f"auth_file = {self.directory}/userlist.txt",
            "pool_mode = transaction",
            f"default_pool_size = {pool_size}",
            "max_client_conn = 200",
        ]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"PgBouncer ended:\n{self.log[-3000:]}")
        try:
            psycopg2.connect(
                host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=5
            ).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.wait(30)
        guardian.release("group", process.pid)
